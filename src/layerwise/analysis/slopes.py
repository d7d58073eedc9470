"""The slope of every run, and in how many it is positive."""

import numpy as np
import pandas as pd

from layerwise.analysis.names import DEPTHS, FIVE, KEYS, METRICS, condition_group
from layerwise.analysis.record import Disagreement, RunSlope, Share, rows_of
from layerwise.analysis.runs import Runs
from layerwise.depths import slope
from layerwise.shapes import Array, Float64

__all__ = ["clean_slope", "disagreements", "negative", "run_slopes", "shares", "slope_table"]

#: A slope this far below the size of the values it is of is what rounding leaves of 0.
_ROUNDING = 1e-12


def clean_slope(values: Float64[Array, "n 7"]) -> Float64[Array, " n"]:
    """The least-squares slope of each row; exactly 0 where a row is the same at every depth."""
    rounding = _ROUNDING * np.abs(values).max(axis=1, initial=0.0)
    found = slope(values)
    return np.where(np.abs(found) <= rounding, 0.0, found)


def slope_table(runs: Runs) -> pd.DataFrame:
    """A row a run and metric: the columns that name it, and its slope."""
    values = runs.profiles[list(DEPTHS)].to_numpy(dtype=np.float64)
    return runs.profiles[[*KEYS, "metric"]].assign(slope=clean_slope(values))


def run_slopes(slopes: pd.DataFrame) -> tuple[RunSlope, ...]:
    """Every row of a table of slopes."""
    return rows_of(slopes, RunSlope)


def negative(slopes: pd.DataFrame) -> tuple[RunSlope, ...]:
    """The runs of the five standard conditions whose slope is below 0."""
    return rows_of(slopes[slopes["condition"].isin(FIVE) & (slopes["slope"] < 0)], RunSlope)


def shares(slopes: pd.DataFrame) -> tuple[Share, ...]:
    """Signs by metric, under the five standard conditions together and under each other one."""
    found = slopes.assign(conditions=slopes["condition"].map(condition_group))
    order = sorted(set(found["conditions"]), key=lambda name: (name != "five-standard", name))
    parts = (
        (metric, name, found.loc[(found["metric"] == metric) & (found["conditions"] == name)])
        for metric in METRICS
        for name in order
    )
    return tuple(_share(metric, name, part) for metric, name, part in parts if len(part))


def _share(metric: str, conditions: str, part: pd.DataFrame) -> Share:
    signs = np.sign(part["slope"].to_numpy())
    positive, negative, zero = (int((signs == sign).sum()) for sign in (1, -1, 0))
    return Share(metric, conditions, len(part), positive, negative, zero, positive / len(part))


def disagreements(slopes: pd.DataFrame) -> tuple[Disagreement, ...]:
    """The runs with both metrics whose slopes are of different sign, 0 being a sign of its own."""
    wide = slopes.pivot_table(index=list(KEYS), columns="metric", values="slope")
    both = wide.reindex(columns=list(METRICS)).dropna()
    differ = both[np.sign(both["procrustes"]) != np.sign(both["cka"])].reset_index()
    first = slopes.drop_duplicates(list(KEYS))[list(KEYS)]
    return rows_of(first.merge(differ, on=list(KEYS), how="inner"), Disagreement)
