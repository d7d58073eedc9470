"""Mean slopes with their resamples, found by model, objective, condition and metric."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from layerwise.analysis.intervals import interval, over_seeds
from layerwise.analysis.names import FIVE
from layerwise.analysis.record import MeanSlope
from layerwise.shapes import Array, Float64

__all__ = ["Averaged", "Cell", "Cells", "averaged", "cells_of", "mean_slopes"]


@dataclass(frozen=True, eq=False)
class Cell:
    """The slope of one model, objective, condition and metric.

    Attributes:
        figures: The mean over seeds, then its resamples.
        seeds: How many seeds.
    """

    figures: Float64[Array, " b"]
    seeds: int

    @property
    def slope(self) -> float:
        """The mean over seeds."""
        return float(self.figures[0])


Cells = dict[tuple[str, str, str, str], Cell]


@dataclass(frozen=True, eq=False)
class Averaged:
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


def cells_of(slopes: pd.DataFrame, *, bootstrap: int, seed: int) -> Cells:
    """The cells of a table of slopes of one placement, in its order."""
    if slopes.empty:
        return {}
    table, means = over_seeds(slopes, bootstrap=bootstrap, seed=seed)
    keys = table[["model", "objective", "condition", "metric"]].itertuples(index=False, name=None)
    columns = zip(keys, means.T, table["seeds"], strict=True)
    return {key: Cell(figures, int(seeds)) for key, figures, seeds in columns}


def mean_slopes(cells: Cells) -> tuple[MeanSlope, ...]:
    """A row a cell, with its interval over seeds."""
    return tuple(
        MeanSlope(*key, cell.seeds, cell.slope, *interval(cell.figures, seeds=cell.seeds))
        for key, cell in cells.items()
    )


def averaged(cells: Cells, *, model: str, metric: str, objectives: Sequence[str]) -> Averaged:
    """The slopes of `model`, averaged over those of the five conditions that each objective has."""
    every = {name: _five(cells, (model, name, metric)) for name in objectives}
    found = {name: part for name, part in every.items() if part}
    means = [np.mean([cell.figures for cell in part], axis=0) for part in found.values()]
    return Averaged(
        objectives=tuple(found),
        figures=np.stack(means, axis=1) if means else np.empty((1, 0)),
        conditions=tuple(map(len, found.values())),
        seeds=min((cell.seeds for part in found.values() for cell in part), default=0),
    )


def _five(cells: Cells, names: tuple[str, str, str]) -> list[Cell]:
    """The cells of a model, objective and metric under the five standard conditions."""
    model, objective, metric = names
    found = (cells.get((model, objective, condition, metric)) for condition in FIVE)
    return [cell for cell in found if cell is not None]
