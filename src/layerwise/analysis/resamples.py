"""Mean slopes over seeds, with resamples of the seeds and the intervals from them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from layerwise.analysis.names import FIVE
from layerwise.analysis.record import MeanSlope
from layerwise.intervals import percentiles
from layerwise.shapes import Array, Float64

LEVEL = 0.95
"""Coverage of the intervals."""

_CELL = ["model", "objective", "condition", "metric"]


@dataclass(frozen=True, eq=False)
class ResampledSlope:
    """The slope of one model, objective, condition and metric.

    Attributes:
        figures: The mean over seeds, then its resamples; NaN in those that drew no seed of it.
        seeds: How many seeds.
    """

    figures: Float64[Array, " b"]
    seeds: int

    @property
    def slope(self) -> float:
        """Return the mean over seeds."""
        return float(self.figures[0])


ResampledSlopes = dict[tuple[str, str, str, str], ResampledSlope]


@dataclass(frozen=True, eq=False)
class ObjectiveSlopes:
    """The slopes of one model and metric over the five standard conditions, by objective.

    Attributes:
        objectives: Their names.
        figures: A column an objective: the mean over conditions, then its resamples.
        conditions: Over how many conditions each is averaged.
        seeds: The fewest seeds behind any.
    """

    objectives: tuple[str, ...]
    figures: Float64[Array, "b o"]
    conditions: tuple[int, ...]
    seeds: int


def resample_slopes(slopes: pd.DataFrame, *, bootstrap: int, seed: int) -> ResampledSlopes:
    """Return the slopes of a table by model, objective, condition and metric, in its order.

    Seeds are resampled as a whole: a resample draws as many seeds as the study has, with
    replacement, and takes every run of a drawn seed as often as it was drawn, so that what is
    compared stays paired.

    Args:
        slopes: Columns model, objective, condition, metric, seed and slope, of one placement.
        bootstrap: Resamples; none where the study has one seed.
        seed: Of the resamples.
    """
    if slopes.empty:
        return {}
    wide = slopes.pivot_table(index=_CELL, columns="seed", values="slope", sort=False)
    values = wide.to_numpy(dtype=np.float64)
    present = np.isfinite(values)
    seeds = values.shape[1]
    counts = np.ones((1, seeds))  # How often each seed is drawn: once, then at random.
    if seeds > 1:
        generator = np.random.default_rng(seed)
        drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=bootstrap)
        counts = np.concatenate([counts, drawn.astype(np.float64)])
    weights = counts @ present.T.astype(np.float64)
    sums = counts @ np.where(present, values, 0.0).T
    means = np.divide(sums, weights, out=np.full_like(sums, np.nan), where=weights > 0)
    columns = zip(wide.index, means.T, present.sum(axis=1), strict=True)
    return {key: ResampledSlope(figures, int(own)) for key, figures, own in columns}


def interval(figures: Float64[Array, " b"], *, seeds: int) -> tuple[float | None, float | None]:
    """Return both ends of the percentile interval of a figure; None with fewer than two seeds.

    Args:
        figures: The figure, then its resamples; those that are not finite are left out.
        seeds: How many seeds are behind it.
    """
    resamples = figures[1:][np.isfinite(figures[1:])]
    if seeds < 2 or not len(resamples):
        return None, None
    return percentiles(resamples)


def mean_slopes(slopes: ResampledSlopes) -> tuple[MeanSlope, ...]:
    """Return each slope as a row, with its interval over seeds."""
    return tuple(
        MeanSlope(*key, found.seeds, found.slope, *interval(found.figures, seeds=found.seeds))
        for key, found in slopes.items()
    )


def average_conditions(
    slopes: ResampledSlopes, *, model: str, metric: str, objectives: Iterable[str]
) -> ObjectiveSlopes:
    """Return the slopes of `model`, averaged over those of the five conditions that there are."""
    by_objective = {
        name: [slopes[k] for c in FIVE if (k := (model, name, c, metric)) in slopes]
        for name in objectives
    }
    found = {name: part for name, part in by_objective.items() if part}
    means = [np.mean([slope.figures for slope in part], axis=0) for part in found.values()]
    return ObjectiveSlopes(
        objectives=tuple(found),
        figures=np.stack(means, axis=1) if means else np.empty((1, 0)),
        conditions=tuple(map(len, found.values())),
        seeds=min((slope.seeds for part in found.values() for slope in part), default=0),
    )
