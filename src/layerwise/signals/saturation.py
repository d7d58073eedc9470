"""Where adaptation is blocked: saturated attention and a faded backward signal.

Source: "Attention Saturation and Gradient Suppression at Inflection Layers", arXiv 2511.00797.
"""

import numpy as np

from layerwise.capture.stats import LayerStats
from layerwise.shapes import Array, Float64

#: Normal quantile of a two-sided 99 % interval.
Z99 = 2.5758293035489004


def attention_entropy(stats: LayerStats) -> tuple[Float64[Array, "l"], Float64[Array, "l"]]:
    """Return the mean entropy of attention rows, and the half-width of its 99 % interval.

    In nats, over examples, heads and counted query tokens. The interval is over sampled query rows;
    its half-width is 0 where all were used.
    """
    assert stats.entropy is not None  # noqa: S101  # the plan measured entropy
    assert stats.entropy_variance is not None  # noqa: S101
    # At least one token, so that a silent block divides by something.
    tokens = np.maximum(stats.tokens.sum(0), 1.0)
    return stats.entropy.sum(0) / tokens, Z99 * np.sqrt(stats.entropy_variance.sum(0)) / tokens


def activation_gradient(stats: LayerStats) -> Float64[Array, "l"]:
    """Return mean ||dL/dh|| over examples, L an example's own loss, h the block's output."""
    assert stats.gradient_energy is not None  # noqa: S101  # the plan measured outputs
    return np.sqrt(stats.gradient_energy).mean(0)
