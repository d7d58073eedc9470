"""Mean slopes over seeds, and without each of them: the intervals come from those."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from layerwise.analysis.names import FIVE
from layerwise.analysis.record import MeanSlope
from layerwise.intervals import FEWEST, jackknife_interval
from layerwise.shapes import Array, Float64

_CELL = ["model", "objective", "condition", "metric"]


@dataclass(frozen=True, eq=False)
class SeedSlope:
    """The slope of one model, objective, condition and metric.

    Attributes:
        figures: The mean over seeds, then that without each seed of the study; NaN where that
            leaves none.
        seeds: How many seeds.
    """

    figures: Float64[Array, " b"]
    seeds: int

    @property
    def slope(self) -> float:
        """Return the mean over seeds."""
        return float(self.figures[0])


SeedSlopes = dict[tuple[str, str, str, str], SeedSlope]


@dataclass(frozen=True, eq=False)
class ObjectiveSlopes:
    """The slopes of one model and metric over the five standard conditions, by objective.

    Attributes:
        objectives: Their names.
        figures: A column an objective: the mean over conditions, then that without each seed.
        conditions: Over how many conditions each is averaged.
        seeds: The fewest seeds behind any.
    """

    objectives: tuple[str, ...]
    figures: Float64[Array, "b o"]
    conditions: tuple[int, ...]
    seeds: int


def seed_slopes(slopes: pd.DataFrame) -> SeedSlopes:
    """Return the slopes of a table by model, objective, condition and metric, in its order.

    A seed is left out as a whole, every run of it, so that what is compared stays paired.

    Args:
        slopes: Columns model, objective, condition, metric, seed and slope, of one placement.
    """
    if slopes.empty:
        return {}
    wide = slopes.pivot_table(index=_CELL, columns="seed", values="slope", sort=False)
    values = wide.to_numpy(dtype=np.float64)
    present = np.isfinite(values)
    seeds = values.shape[1]
    left_out = 1.0 - np.eye(seeds) if seeds > 1 else np.empty((0, 1))
    counts = np.concatenate([np.ones((1, seeds)), left_out])  # How often each seed is taken.
    weights = counts @ present.T.astype(np.float64)
    sums = counts @ np.where(present, values, 0.0).T
    means = np.divide(sums, weights, out=np.full_like(sums, np.nan), where=weights > 0)
    columns = zip(wide.index, means.T, present.sum(axis=1), strict=True)
    return {key: SeedSlope(figures, int(own)) for key, figures, own in columns}


def interval(figures: Float64[Array, " b"], *, seeds: int) -> tuple[float | None, float | None]:
    """Return both ends of the interval of a figure over seeds; None with fewer than three.

    Args:
        figures: The figure, then without each seed; see `layerwise.intervals.jackknife_interval`.
        seeds: How many seeds are behind it.
    """
    if seeds < FEWEST:
        return None, None
    return jackknife_interval(float(figures[0]), figures[1:]) or (None, None)


def mean_slopes(slopes: SeedSlopes) -> tuple[MeanSlope, ...]:
    """Return each slope as a row, with its interval over seeds."""
    return tuple(
        MeanSlope(*key, found.seeds, found.slope, *interval(found.figures, seeds=found.seeds))
        for key, found in slopes.items()
    )


def average_conditions(
    slopes: SeedSlopes, *, model: str, metric: str, objectives: Iterable[str]
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
