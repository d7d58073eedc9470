"""How the change of a model spreads over depth."""

import numpy as np

from layerwise.analysis.names import DEPTHS, FIVE
from layerwise.analysis.record import Width
from layerwise.analysis.runs import Runs
from layerwise.shapes import Array, Float64

__all__ = ["widths"]


def widths(runs: Runs) -> tuple[Width, ...]:
    """A row for each model with CKA profiles under any of the five standard conditions.

    A run's width is its CKA-change profile divided by its sum (arXiv 2604.17177, table 3); a
    model's is the mean of those of its runs, over conditions, objectives and seeds.
    """
    table = runs.profiles
    cka = table[(table["metric"] == "cka") & table["condition"].isin(FIVE)]
    return tuple(
        _width(str(model), part[list(DEPTHS)].to_numpy(dtype=np.float64))
        for model, part in cka.groupby("model", sort=False)
    )


def _width(model: str, profiles: Float64[Array, "n 7"]) -> Width:
    sums = profiles.sum(axis=1, keepdims=True)
    moved = sums[:, 0] > 0
    shares = (profiles[moved] / sums[moved]).mean(axis=0).tolist() if moved.any() else []
    return Width(model, int(moved.sum()), int((~moved).sum()), tuple(shares))
