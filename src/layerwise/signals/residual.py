"""How much task error an adapter in each block could correct, and how surely it is known.

Source: "Understanding and Guiding Layer Placement in Parameter-Efficient Fine-Tuning of Large
Language Models" (Layer Card), arXiv 2602.04019.
"""

import numpy as np

from layerwise.capture.stats import LayerStats
from layerwise.seeds import numpy_generator
from layerwise.shapes import Array, Float64

#: Bootstrap replicates: enough for a 95 % interval whose ends move by a percent (ours).
REPLICATES = 1000


def residual_norm(stats: LayerStats, *, rank: int | None = None) -> Float64[Array, "l"]:
    """Residual norm of each block: sqrt(sum over its modules of (E ||grad_B||)^2 / sigma).

    Args:
        stats: A pass that measured adapter gradients and inputs.
        rank: Use the first so many rows of A only; all of them where None.
    """
    weights = np.full((1, len(stats.index)), 1 / len(stats.index))
    return _weighted(stats, weights, rank=rank)[0]


def residual_norm_interval(
    stats: LayerStats,
) -> tuple[Float64[Array, "l"], Float64[Array, "l"], Float64[Array, "l"]]:
    """Return the residual norms with both ends of their 95 % percentile intervals (Efron 1979)."""
    tail = (1 - 0.95) / 2
    low, high = np.quantile(bootstrap(stats), [tail, 1 - tail], axis=0)
    return residual_norm(stats), low, high


def coherence(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the norm of the mean gradient over the mean norm, both relative to sigma, in [0, 1].

    1 where every example pulls the same way, about 1/sqrt(n) where each pulls its own. A block
    without any gradient has 0.
    """
    assert stats.mean_column_energy is not None  # noqa: S101  # the plan measured gradients
    weights = np.full((1, len(stats.index)), 1 / len(stats.index))
    terms = stats.mean_column_energy.sum(-1) / _sigma(stats, weights)[0]
    mean_norm = np.sqrt(_by_block(stats, terms[None])[0])
    whole = residual_norm(stats)
    return np.divide(mean_norm, whole, out=np.zeros_like(whole), where=whole > 0)


def bootstrap(stats: LayerStats) -> Float64[Array, "k l"]:
    """Return residual norms over resamplings of the examples, drawn by the seed of the pass."""
    n, random = len(stats.index), numpy_generator(stats.seed, "bootstrap")
    draws = random.multinomial(n, np.full(n, 1 / n), size=REPLICATES)
    return _weighted(stats, draws / n)


def _weighted(
    stats: LayerStats, weights: Float64[Array, "k n"], *, rank: int | None = None
) -> Float64[Array, "k l"]:
    """Return the residual norm under each row of example weights, which add up to one."""
    assert stats.column_energy is not None  # noqa: S101  # the plan measured gradients
    norms = np.sqrt(stats.column_energy[:, :, :rank].sum(-1))
    expected = weights @ norms
    return np.sqrt(_by_block(stats, np.square(expected) / _sigma(stats, weights)))


def _sigma(stats: LayerStats, weights: Float64[Array, "k n"]) -> Float64[Array, "k m"]:
    """Activation energy of each module's input; where that is zero its gradient is, too."""
    assert stats.input_energy is not None  # noqa: S101  # the plan measured inputs
    assert stats.input_tokens is not None  # noqa: S101
    energy = (weights @ stats.input_energy) / np.maximum(weights @ stats.input_tokens, 1e-300)
    by_module = energy[:, [module.source for module in stats.modules]]
    return np.where(by_module > 0, by_module, 1.0)


def _by_block(stats: LayerStats, terms: Float64[Array, "k m"]) -> Float64[Array, "k l"]:
    """Module terms added up by block; NaN for a block without adapted modules."""
    rows = np.array([module.row for module in stats.modules])
    totals = np.full((len(terms), len(stats.blocks)), np.nan)
    for row in np.unique(rows):
        totals[:, row] = terms[:, rows == row].sum(1)
    return totals
