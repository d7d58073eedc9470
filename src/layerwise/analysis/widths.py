"""The spread of each model's change over depth."""

import numpy as np

from layerwise.analysis.names import DEPTHS, FIVE
from layerwise.analysis.record import Width
from layerwise.analysis.run_tables import RunTables

__all__ = ["widths"]


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
        shares = (profiles[moved] / sums[moved]).mean(axis=0).tolist() if moved.any() else []
        rows.append(Width(str(model), int(moved.sum()), int((~moved).sum()), tuple(shares)))
    return tuple(rows)
