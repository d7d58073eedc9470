"""What a block costs: seconds and bytes for a batch of the pass's mean size."""

import numpy as np

from layerwise.capture.stats import LayerStats
from layerwise.shapes import Array, Float64


def forward_seconds(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the seconds of each block's forward."""
    return _for_mean_batch(stats, stats.forward_seconds)


def backward_seconds(stats: LayerStats) -> Float64[Array, "l"]:
    """Seconds of each block's backward with frozen weights: what adapters below it have to pay."""
    return _for_mean_batch(stats, stats.backward_seconds)


def adapter_seconds(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the seconds of each block's adapters; NaN where none were timed."""
    unknown = np.full(len(stats.blocks), np.nan)
    return unknown if stats.adapter_seconds is None else stats.adapter_seconds


def activation_bytes(stats: LayerStats) -> Float64[Array, "l"]:
    """Return bytes that autograd keeps of each block between forward and backward."""
    return _for_mean_batch(stats, stats.activation_bytes)


def outside_seconds(stats: LayerStats) -> Float64[Array, "2"]:
    """Return forward and backward seconds of what is in no block: embeddings, head and loss."""
    return _for_mean_batch(stats, stats.outside_seconds)


def plain_step_seconds(stats: LayerStats) -> float:
    """Seconds of forward and backward with frozen weights, without the signals' own work."""
    blocks = np.nansum(forward_seconds(stats)) + np.nansum(backward_seconds(stats))
    return float(blocks + outside_seconds(stats).sum())


def _for_mean_batch(stats: LayerStats, values: Float64[Array, "b k"]) -> Float64[Array, "k"]:
    """Return the median over batches of a value per token, for a batch of the mean size.

    The median, since the first batch pays for warming up and any may meet a busy machine.
    """
    per_token = values / stats.batch_tokens[:, None]
    seen = ~np.isnan(per_token).all(0)
    typical = np.full(values.shape[1], np.nan)
    typical[seen] = np.nanmedian(per_token[:, seen], axis=0)
    return typical * stats.batch_tokens.mean()
