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


def ski(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the saturation knee index of each block, which policy ``ski`` goes by."""
    return inflection(attention_entropy(stats)[0], activation_gradient(stats))


def inflection(
    entropy: Float64[Array, "l"], gradient: Float64[Array, "l"], *, alpha: float = 0.5
) -> Float64[Array, "l"]:
    """SKI of each block in [0, 1]: alpha (1 - H / max H) + (1 - alpha) (1 - G / max G).

    H is the attention entropy, G the norm of the activation gradient, both at least 0.
    """
    saturated, faded = 1.0 - share_of_peak(entropy), 1.0 - share_of_peak(gradient)
    return np.asarray(alpha * saturated + (1.0 - alpha) * faded)


def share_of_peak(values: Float64[Array, "l"]) -> Float64[Array, "l"]:
    """Return `values` over their largest; all zeros stay zeros, and what is not known so."""
    known = values[np.isfinite(values)]
    peak = float(known.max()) if known.size else 0.0
    return values / peak if peak > 0.0 else np.zeros_like(values)
