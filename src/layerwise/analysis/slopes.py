"""The slope of every run, in how many it is positive, and the spread of change over depth."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from layerwise.analysis.names import DEPTHS, FIVE, KEYS, METRICS
from layerwise.analysis.record import Disagreement, RunSlope, Share, Width, rows_of
from layerwise.analysis.run_tables import RunTables
from layerwise.depths import slope
from layerwise.shapes import Array, Float64

#: A slope this far below the size of the values it is of is what rounding leaves of 0.
_ROUNDING = 1e-12


def clean_slope(values: Float64[Array, "n 7"]) -> Float64[Array, " n"]:
    """Return each row's least-squares slope; exactly 0 where it is the same at every depth."""
    rounding = _ROUNDING * np.abs(values).max(axis=1, initial=0.0)
    found = slope(values)
    return np.where(np.abs(found) <= rounding, 0.0, found)


def slope_table(runs: RunTables) -> pd.DataFrame:
    """Return a row a run and metric: the columns that name it, and its slope."""
    values = runs.profiles[list(DEPTHS)].to_numpy(dtype=np.float64)
    return runs.profiles[[*KEYS, "metric"]].assign(slope=clean_slope(values))


def negative(slopes: pd.DataFrame) -> tuple[RunSlope, ...]:
    """Return the runs of the five standard conditions whose slope is below 0."""
    return rows_of(slopes[slopes["condition"].isin(FIVE) & (slopes["slope"] < 0)], RunSlope)


def count_signs(values: Iterable[float]) -> tuple[int, int, int]:
    """Return how many values are above 0, below 0 and exactly 0."""
    signs = np.sign(np.fromiter(values, dtype=np.float64))
    return int((signs > 0).sum()), int((signs < 0).sum()), int((signs == 0).sum())


def shares(slopes: pd.DataFrame) -> tuple[Share, ...]:
    """Count signs by metric, of the five standard conditions together and of each other one."""
    five = slopes["condition"].isin(FIVE)
    grouped = slopes.assign(conditions=slopes["condition"].mask(five, "five-standard"))
    order = sorted(set(grouped["conditions"]), key=lambda name: (name != "five-standard", name))
    rows = []
    for metric in METRICS:
        for name in order:
            chosen = (grouped["metric"] == metric) & (grouped["conditions"] == name)
            runs = int(chosen.sum())
            if runs:
                signs = count_signs(grouped.loc[chosen, "slope"])
                rows.append(Share(metric, name, runs, *signs, signs[0] / runs))
    return tuple(rows)


def disagreements(slopes: pd.DataFrame) -> tuple[Disagreement, ...]:
    """Return the runs whose two slopes are of different sign, 0 being a sign of its own."""
    wide = slopes.pivot_table(index=list(KEYS), columns="metric", values="slope")
    both = wide.reindex(columns=list(METRICS)).dropna()
    differ = both[np.sign(both["procrustes"]) != np.sign(both["cka"])].reset_index()
    first = slopes.drop_duplicates(list(KEYS))[list(KEYS)]
    return rows_of(first.merge(differ, on=list(KEYS), how="inner"), Disagreement)


def widths(runs: RunTables) -> tuple[Width, ...]:
    """Return a row for each model with CKA profiles under any of the five standard conditions.

    A run's width is its CKA-change profile divided by its sum (arXiv 2604.17177, table 3); a
    model's is the mean of those of its runs, over conditions, objectives and seeds.
    """
    table = runs.profiles
    cka = table[(table["metric"] == "cka") & table["condition"].isin(FIVE)]
    rows = []
    for model, part in cka.groupby("model", sort=False):
        profiles = part[list(DEPTHS)].to_numpy(dtype=np.float64)
        sums = profiles.sum(axis=1, keepdims=True)
        moved = sums[:, 0] > 0
        shares = profiles[moved] / sums[moved]
        mean = shares.mean(axis=0).tolist() if moved.any() else []
        last = pd.Series(shares[:, -1]).groupby(part["objective"].to_numpy()[moved]).mean()
        spread = float(last.std()) if len(last) > 1 else None
        rows.append(Width(str(model), int(moved.sum()), int((~moved).sum()), tuple(mean), spread))
    return tuple(rows)
