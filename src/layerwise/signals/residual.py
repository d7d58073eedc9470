"""How much task error an adapter in each block could correct, and how surely it is known.

Source: "Understanding and Guiding Layer Placement in Parameter-Efficient Fine-Tuning of Large
Language Models" (Layer Card), arXiv 2602.04019.
"""

from dataclasses import replace

import numpy as np

from layerwise.capture.stats import LayerStats
from layerwise.intervals import joined_interval
from layerwise.seeds import numpy_generator
from layerwise.shapes import Array, Float64

#: Bootstrap replicates: enough for a 95 % interval whose ends move by a percent (ours).
REPLICATES = 1000


def residual_norm(stats: LayerStats) -> Float64[Array, "l"]:
    """Residual norm of each block: sqrt(sum over its modules of (E ||grad_B||)^2 / sigma).

    The expectation is over examples and over the draws of A. That is algorithm 1's; the other
    readings of `layerwise.capture.plan.READINGS` divide by E ||phi||^2 = d sigma, or take the norm
    of the mean gradient.
    """
    return _figure(stats, norms(stats, _columns(stats)).mean((0, 2)))


def one_draw(stats: LayerStats, draw: int, *, rank: int) -> Float64[Array, "l"]:
    """Return the residual norms under one draw of A, of adapters of its first `rank` rows."""
    some = _by_draw(stats, _columns(stats))[:, :, draw, :rank]
    return _figure(stats, np.sqrt(some.sum(-1)).mean(0))


def residual_norm_interval(
    stats: LayerStats,
) -> tuple[Float64[Array, "l"], Float64[Array, "l"], Float64[Array, "l"]]:
    """Return the residual norms with both ends of their 95 % intervals, over examples and A.

    The one error is the bootstrap's over examples, the other the jackknife's over the rows of all
    draws of A, which are drawn independently (Efron and Stein 1981).
    """
    whole, resampled = residual_norm(stats), bootstrap(stats)
    left_out, n = _without_rows(stats), len(stats.index)
    ends = [
        joined_interval(whole[row], resampled[:, row], left_out[:, row], units=n)
        for row in range(len(whole))
    ]
    return whole, np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def coherence(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the norm of the mean gradient over the mean norm, both relative to sigma, in [0, 1].

    1 where every example pulls the same way, `coherence_floor` where each pulls its own. A block
    without any gradient has 0.
    """
    assert stats.mean_column_energy is not None  # noqa: S101  # the plan measured gradients
    return _share(stats, norms(stats, stats.mean_column_energy[None]).mean(2)[0])


def coherence_floor(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the coherence of these examples if their gradients had nothing in common.

    The mean of n independent gradients without a mean of their own has the expected squared norm
    sum ||g_i||^2 / n^2.
    """
    assert stats.column_energy is not None  # noqa: S101  # the plan measured gradients
    energies = _by_draw(stats, stats.column_energy).sum(-1).sum(0)
    return _share(stats, (np.sqrt(energies) / len(stats.index)).mean(1))


def gradient_norm(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the expected norm of the gradient of the adapted weights themselves.

    As E_A ||grad_B||^2 = r / d ||grad_W||^2 for A ~ N(0, 1 / d) of r rows, it is estimated from all
    draws: sqrt(d / c) times the norm of the c columns, modules side by side.
    """
    assert stats.column_energy is not None  # noqa: S101  # the plan measured gradients
    widths = np.array([module.in_features for module in stats.modules], dtype=np.float64)
    squares = stats.column_energy.mean(-1) * widths
    return np.asarray(np.sqrt(_by_block(stats, squares)).mean(0))


def bootstrap(stats: LayerStats) -> Float64[Array, "k l"]:
    """Return residual norms over resamplings of the examples, drawn by the seed of the pass."""
    n, random = len(stats.index), numpy_generator(stats.seed, "bootstrap")
    weights = random.multinomial(n, np.full(n, 1 / n), size=REPLICATES) / n
    expected = weights @ norms(stats, _columns(stats)).mean(2)
    return np.sqrt(_by_block(stats, np.square(expected) / _sigma(stats, weights)))


def _without_rows(stats: LayerStats) -> Float64[Array, "c l"]:
    """Return the residual norms with one row of A left out, each in its turn; of one row, none.

    What is left of the row's draw stands for all of it.
    """
    energies = _by_draw(stats, _columns(stats))
    draws, rank = energies.shape[2:]
    if rank == 1:  # A draw is a row.
        rows = np.sqrt(energies[..., 0])
        sets = (np.delete(rows, d, axis=2).mean(2) for d in range(draws) if draws > 1)
        found = [_figure(stats, some.mean(0)) for some in sets]
        return np.array(found).reshape(-1, len(stats.blocks))
    whole, every = energies.sum(-1), np.sqrt(energies.sum(-1))
    found = []
    for draw in range(draws):
        others = every.sum(2) - every[:, :, draw]
        for row in range(rank):
            left = (whole[:, :, draw] - energies[:, :, draw, row]).clip(0.0)
            own = np.sqrt(left * (rank / (rank - 1)))
            found.append(_figure(stats, ((others + own) / draws).mean(0)))
    return np.array(found)


def _columns(stats: LayerStats) -> Float64[Array, "n m c"]:
    """Return the energies of gradients' columns that the reading is of: examples', or their mean's.

    Of the mean there are no examples to resample: all have its.
    """
    assert stats.column_energy is not None  # noqa: S101  # the plan measured gradients
    if not stats.reading.endswith("of-mean"):
        return stats.column_energy
    assert stats.mean_column_energy is not None  # noqa: S101
    return np.broadcast_to(stats.mean_column_energy, stats.column_energy.shape)


def _by_draw(stats: LayerStats, columns: Float64[Array, "n m c"]) -> Float64[Array, "n m d r"]:
    return columns.reshape(*columns.shape[:2], stats.draws, -1)


def norms(stats: LayerStats, columns: Float64[Array, "n m c"]) -> Float64[Array, "n m d"]:
    """Return the norms of B gradients from the energies of their columns, a draw each."""
    return np.asarray(np.sqrt(_by_draw(stats, columns).sum(-1)))


def _figure(stats: LayerStats, expected: Float64[Array, "m"]) -> Float64[Array, "l"]:
    """Return sqrt(sum over a block's modules of expected^2 / sigma)."""
    n = len(stats.index)
    sigma = _sigma(stats, np.full((1, n), 1 / n))
    return np.asarray(np.sqrt(_by_block(stats, np.square(expected)[None] / sigma))[0])


def _share(stats: LayerStats, some: Float64[Array, "m"]) -> Float64[Array, "l"]:
    """Return the share of some norms in the expected norm; 0 where there is no gradient."""
    plain = replace(stats, reading="algorithm-1")
    whole, part = residual_norm(plain), _figure(plain, some)
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def _sigma(stats: LayerStats, weights: Float64[Array, "k n"]) -> Float64[Array, "k m"]:
    """Activation energy of each module's input, or, after equation 1, its mean squared norm.

    1 where that is zero, for then the gradient is, too.
    """
    assert stats.input_energy is not None  # noqa: S101  # the plan measured inputs
    assert stats.input_tokens is not None  # noqa: S101
    energy = (weights @ stats.input_energy) / np.maximum(weights @ stats.input_tokens, 1e-300)
    by_module = energy[:, [module.source for module in stats.modules]]
    if stats.reading.startswith("equation-1"):
        by_module = by_module * [module.in_features for module in stats.modules]
    return np.where(by_module > 0, by_module, 1.0)


def _by_block(stats: LayerStats, terms: Float64[Array, "k m"]) -> Float64[Array, "k l"]:
    """Module terms added up by block; NaN for a block without adapted modules."""
    rows = np.array([module.row for module in stats.modules])
    totals = np.full((len(terms), len(stats.blocks)), np.nan)
    for row in np.unique(rows):
        totals[:, row] = terms[:, rows == row].sum(1)
    return totals
