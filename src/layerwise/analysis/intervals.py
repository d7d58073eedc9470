"""Bootstrap over seeds: how far a figure would move had other seeds been drawn."""

import numpy as np
import pandas as pd

from layerwise.shapes import Array, Float64

__all__ = ["LEVEL", "interval", "over_seeds"]

LEVEL = 0.95
"""Coverage of the intervals."""

_CELL = ["model", "objective", "condition", "metric"]


def over_seeds(
    slopes: pd.DataFrame, *, bootstrap: int, seed: int
) -> tuple[pd.DataFrame, Float64[Array, "b c"]]:
    """Mean slopes over seeds by model, objective, condition and metric, and their resamples.

    Seeds are resampled as a whole: a resample draws as many seeds as the study has, with
    replacement, and takes every run of a drawn seed as often as it was drawn, so that what is
    compared stays paired. A cell that a resample leaves without runs is NaN in it.

    Args:
        slopes: Columns model, objective, condition, metric, seed and slope.
        bootstrap: Resamples; none where the study has one seed.
        seed: Of the resamples.

    Returns:
        The cells with their number of ``seeds``, and for each (a column) the mean in the first row
        and its resamples in the rows after.
    """
    wide = slopes.pivot_table(index=_CELL, columns="seed", values="slope", sort=False)
    values = wide.to_numpy(dtype=np.float64)
    present = np.isfinite(values)
    counts = _counts(values.shape[1], bootstrap=bootstrap, seed=seed)
    weights = counts @ present.T.astype(np.float64)
    sums = counts @ np.where(present, values, 0.0).T
    means = np.divide(sums, weights, out=np.full_like(sums, np.nan), where=weights > 0)
    return wide.index.to_frame(index=False).assign(seeds=present.sum(axis=1)), means


def _counts(seeds: int, *, bootstrap: int, seed: int) -> Float64[Array, "b s"]:
    """How often each seed is drawn: once each in the first row, at random in those after."""
    once = np.ones((1, seeds))
    if seeds < 2:
        return once
    drawn = np.random.default_rng(seed).multinomial(
        seeds, np.full(seeds, 1 / seeds), size=bootstrap
    )
    return np.concatenate([once, drawn.astype(np.float64)])


def interval(figures: Float64[Array, " b"], *, seeds: int) -> tuple[float | None, float | None]:
    """Both ends of the percentile interval of a figure; None with fewer than two seeds.

    Args:
        figures: The figure, then its resamples; those that are not finite are left out.
        seeds: How many seeds are behind it.
    """
    resamples = figures[1:][np.isfinite(figures[1:])]
    if seeds < 2 or not len(resamples):
        return None, None
    ends = np.quantile(resamples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(ends[0]), float(ends[1])
