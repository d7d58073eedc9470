"""The tables of arXiv 2604.17177, made of an analysis: of the published runs or of one's own."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd

from layerwise.analysis.concordance import correlations
from layerwise.analysis.names import DEPTHS, DISTANCES, FIVE, METRICS
from layerwise.analysis.record import Analysis
from layerwise.registry import Registry

_PAIR = ["model", "objective"]

#: Families of models that the paper calls encoders; all others are causal.
_ENCODER = "encoder"

#: The share of change that a budget should hold (ours).
_MOST_OF_IT = 0.8


def equal_step(analysis: Analysis) -> pd.DataFrame:
    """Return table 1: slopes under standard and equal-step, and their ratio, by Procrustes."""
    table = _procrustes(analysis.frame("equal_step"))
    return table[["model", "block", "objective", "standard", "equal_step", "ratio"]]


def distance_and_slope(analysis: Analysis) -> pd.DataFrame:
    """Return tables 2 and 5: each objective's distances, and its Procrustes slope.

    The slope is the mean over seeds and then over the five standard conditions, with its standard
    deviation over these conditions.
    """
    points = _procrustes(analysis.frame("points"))
    wide = points.pivot_table(index=_PAIR, columns="distance", values="at", sort=False)
    five = _procrustes(_standard(analysis.frame("mean_slopes")))
    spread = five.groupby(_PAIR)["slope"].agg(slope="mean", deviation="std")
    return (
        wide.reindex(columns=list(DISTANCES)).join(spread).reset_index().rename_axis(None, axis=1)
    )


def width(analysis: Analysis) -> pd.DataFrame:
    """Return table 3: shares of the CKA change by depth, and how the last varies over objectives.

    Sorted by the last share, as appendix I tells the models.
    """
    kinds = analysis.frame("models")[["model", "family", "block"]]
    table = analysis.frame("widths").merge(kinds, on="model")
    named = ["model", "family", "block", *DEPTHS, "deviation"]
    return table[named].sort_values(DEPTHS[-1], ascending=False, ignore_index=True)


def accounting(analysis: Analysis) -> pd.DataFrame:
    """Return table 4: objectives, conditions, seeds and runs of every model."""
    slopes = analysis.frame("slopes").drop_duplicates([*_PAIR, "condition", "placement", "seed"])
    counted = slopes.groupby("model", sort=False).agg(
        objectives=("objective", "nunique"),
        conditions=("condition", "nunique"),
        seeds=("seed", "nunique"),
        runs=("seed", "size"),
    )
    kinds = analysis.frame("models")[["model", "family", "block", "layers"]]
    return kinds.merge(counted.reset_index(), on="model")


def pooled_by_group(analysis: Analysis) -> pd.DataFrame:
    """Return table 6: Spearman correlation of distance and slope over encoders, others, and all.

    Once with the objectives at distance 0 and once without them.
    """
    points = _procrustes(analysis.frame("points")).merge(
        analysis.frame("models")[["model", "family"]], on="model"
    )
    encoder = points["family"] == _ENCODER
    rows = []
    for group, chosen in {"encoders": encoder, "causal": ~encoder, "all": encoder | True}.items():
        row: dict[str, object] = {"group": group, "models": points[chosen]["model"].nunique()}
        for distance, kept in product(DISTANCES, (True, False)):
            part = points[chosen & (points["distance"] == distance) & (kept | (points["at"] > 0))]
            row[f"{distance} {'with' if kept else 'without'} zero"] = _rank(
                part["slope"], part["at"]
            )
        rows.append(row)
    return pd.DataFrame(rows)


def raw_depth(analysis: Analysis) -> pd.DataFrame:
    """Return appendix F: number of blocks and mean slope by model, and their rank correlation.

    The last line, called ``all``, has the correlation in the place of a slope.
    """
    five = _procrustes(_standard(analysis.frame("mean_slopes")))
    means = five.groupby("model")["slope"].mean().reset_index()
    table = analysis.frame("models")[["model", "family", "layers"]].merge(means, on="model")
    known = table.dropna(subset=["layers"])
    rho = _rank(known["slope"], known["layers"])
    last = pd.DataFrame({"model": ["all"], "family": ["Spearman"], "slope": [rho]})
    return pd.concat([table, last], ignore_index=True).astype({"layers": "Int64"})


def scale(analysis: Analysis) -> pd.DataFrame:
    """Return appendices F and M: slopes of one objective in every two models of one kind.

    A line a pair of models with the same family and kind of block but not the same number of
    blocks, smaller first, and an objective of both; `ratio` is the larger model's slope over the
    smaller's.
    """
    five = _procrustes(_standard(analysis.frame("mean_slopes")))
    slopes = five.groupby(_PAIR, sort=False)["slope"].mean().reset_index()
    table = slopes.merge(
        analysis.frame("models")[["model", "family", "block", "layers"]], on="model"
    )
    both = table.merge(table, on=["objective", "family", "block"], suffixes=("_small", "_large"))
    both = both[both["layers_small"] < both["layers_large"]].reset_index(drop=True)
    both["ratio"] = both["slope_large"] / both["slope_small"]
    names = ["model_small", "model_large", "objective", "slope_small", "slope_large", "ratio"]
    return both[names]


def metric_robustness(analysis: Analysis) -> pd.DataFrame:
    """Return appendix G: do two metrics order a model's objectives alike, and agree in sign?"""
    slopes = analysis.frame("slopes").pivot_table(
        index=[*_PAIR, "condition", "seed"], columns="metric", values="slope", sort=False
    )
    both = slopes.reindex(columns=list(METRICS)).dropna().reset_index()
    rows = []
    for model, part in both.groupby("model", sort=False):
        means = part[part["condition"].isin(FIVE)].groupby("objective")[list(METRICS)].mean()
        alike = np.sign(part["procrustes"]) == np.sign(part["cka"])
        rho = _rank(means["procrustes"], means["cka"])
        rows.append((model, len(part), int(alike.sum()), len(means), rho))
    return pd.DataFrame(rows, columns=["model", "runs", "same_sign", "objectives", "rho"])


def over_seeds(analysis: Analysis) -> pd.DataFrame:
    """Return appendix G: mean and standard deviation of Procrustes slopes that have many seeds."""
    slopes = _procrustes(analysis.frame("slopes"))
    found = slopes.groupby([*_PAIR, "condition"], sort=False)["slope"]
    table = found.agg(seeds="size", slope="mean", deviation="std", least="min").reset_index()
    return table[table["seeds"] > 1].reset_index(drop=True)


def anomalies(analysis: Analysis) -> pd.DataFrame:
    """Return appendix H: slopes beyond the threshold from the pooled line."""
    return analysis.frame("anomalies").drop(columns=["anomaly"])


def budget(analysis: Analysis) -> pd.DataFrame:
    """Return section 5's estimate before any training, by kind of model.

    From how such models spread their change: the range of the last depth's share over them, and
    the relative depth above which at least 80 % of the change lies, in the mean of their widths.
    """
    table = width(analysis)
    rows = []
    for (family, block), part in table.groupby(["family", "block"], sort=False):
        last, mean = part[DEPTHS[-1]], part[list(DEPTHS)].mean()
        above = mean.iloc[::-1].cumsum().iloc[::-1]
        from_depth = [float(depth[1:]) for depth in DEPTHS if above[depth] >= _MOST_OF_IT]
        start = max(from_depth, default=float("nan"))
        rows.append((family, block, len(part), last.min(), last.max(), start))
    names = ["family", "block", "models", "last_low", "last_high", "from_depth"]
    return pd.DataFrame(rows, columns=names)


PAPER_TABLES = Registry[Callable[[Analysis], pd.DataFrame]]("table of arXiv 2604.17177")
"""Functions from an analysis to a table, by the number of the table or the appendix's letter."""

for _name, _table in {
    "1": equal_step,
    "2": distance_and_slope,
    "3": width,
    "4": accounting,
    "6": pooled_by_group,
    "depth": raw_depth,
    "scale": scale,
    "metrics": metric_robustness,
    "seeds": over_seeds,
    "anomalies": anomalies,
    "budget": budget,
}.items():
    PAPER_TABLES.add(_table, name=_name)


def _procrustes(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of Procrustes change, the paper's main metric."""
    return table[table["metric"] == "procrustes"].reset_index(drop=True)


def _standard(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the five standard conditions."""
    return table[table["condition"].isin(FIVE)]


def _rank(slopes: pd.Series, at: pd.Series) -> float:
    """Return the Spearman correlation; NaN of fewer than three points or where one is constant."""
    if len(at) < 3:
        return float("nan")
    rows = slopes.to_numpy(dtype=np.float64)[None]
    return float(correlations(rows, at.to_numpy(dtype=np.float64))[0])
