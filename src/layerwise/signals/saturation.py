"""Where adaptation is blocked: saturated attention and a faded backward signal.

Source: "Attention Saturation and Gradient Suppression at Inflection Layers", arXiv 2511.00797.
"""

import numpy as np

from layerwise.capture.stats import LayerStats
from layerwise.shapes import Array, Float64

__all__ = ["activation_gradient", "attention_entropy", "attention_entropy_error"]

#: Normal quantile of a two-sided 99 % interval.
Z99 = 2.5758293035489004


def attention_entropy(stats: LayerStats) -> Float64[Array, "l"]:
    """Mean entropy of attention rows in nats, over examples, heads and counted query tokens."""
    assert stats.entropy is not None  # noqa: S101  # the plan measured entropy
    return stats.entropy.sum(0) / _tokens(stats)


def attention_entropy_error(stats: LayerStats) -> Float64[Array, "l"]:
    """Half-width of that mean's 99 % interval over sampled query rows; 0 where all were used."""
    assert stats.entropy_variance is not None  # noqa: S101  # the plan measured entropy
    return Z99 * np.sqrt(stats.entropy_variance.sum(0)) / _tokens(stats)


def activation_gradient(stats: LayerStats) -> Float64[Array, "l"]:
    """Mean over examples of ||dL/dh||, L an example's own loss and h the block's output."""
    assert stats.gradient_energy is not None  # noqa: S101  # the plan measured outputs
    return np.sqrt(stats.gradient_energy).mean(0)


def _tokens(stats: LayerStats) -> Float64[Array, "l"]:
    """Counted tokens of each block; at least one, so that a silent block divides by something."""
    return np.maximum(stats.tokens.sum(0), 1.0)
