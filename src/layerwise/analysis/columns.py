"""The columns of an analysis's parts, as a reader sees them: on pages, in LaTeX, on a terminal."""

from collections.abc import Mapping
from typing import Any

from layerwise.analysis.names import DEPTHS
from layerwise.columns import Column

_SEEDS = "95 % interval over seeds"
_SLOPE: Mapping[str, Any] = {"digits": 3, "low": "low", "high": "high", "band": _SEEDS}

_TEXT = (
    Column("model", "Model", form="text", importance=100),
    Column("conditions", "Conditions", form="text", importance=100),
    Column("distance", "Distance by", form="text", importance=95),
    Column("objective", "Objective", form="text", importance=90),
    Column("condition", "Condition", form="text", importance=80),
    Column("placement", "Placement", form="text", importance=70),
    Column("metric", "Metric", form="text", importance=90),
    Column("block", "Block", form="text", importance=55),
    Column("family", "Family", form="text", importance=20),
    Column("references", "References", form="text", importance=40),
    Column("reason", "Reason", form="text", importance=1),
)  # fmt: skip

_COUNTS = tuple(
    Column(key, key.capitalize(), form="count", importance=40 - place)
    for place, key in enumerate((
        "runs", "positive", "negative", "zero", "pairs", "still", "models", "objectives", "layers",
        "points", "seeds", "seed",
    ))
)  # fmt: skip

_NUMBERS = (
    Column("share", "Share", form="percent", digits=1, importance=20),
    Column("slope", "Slope", **_SLOPE, importance=88,
           meaning="Of the least-squares line of the change on relative depth.",
           reads="Above 0: later blocks changed more.",
           caution="Seven depths make a line: look at the profile before its slope."),
    Column("mean_slope", "Mean slope", digits=3, importance=49),
    Column("procrustes", "Procrustes", digits=3, importance=44),
    Column("cka", "CKA", digits=3, importance=43),
    Column("standard", "Standard", digits=3, importance=44),
    Column("equal_step", "Equal-step", **_SLOPE, importance=43,
           meaning="The slope where every layer group makes a step of the same relative length."),
    Column("ratio", "Ratio", digits=3, low="ratio_low", high="ratio_high", band=_SEEDS,
           importance=42, meaning="Equal-step over standard.",
           reads="Near 1: the slope is the model's own; near 0: it came from unequal steps."),
    *(
        Column(name, f"{float(name[1:]):.0%}".replace("%", " %"), digits=3, importance=41)
        for name in DEPTHS
    ),
    Column("rho", "Spearman", **_SLOPE, importance=45,
           meaning="Rank correlation of the objectives' distances and slopes.",
           caution="A few objectives make it coarse."),
    Column("rho_procrustes", "Rho by Procrustes", short="rho Procr.", digits=2, importance=48),
    Column("rho_cosine", "Rho by cosine", short="rho cosine", digits=2, importance=47),
    Column("p_value", "p", importance=30, meaning="Two-sided.",
           caution="As though points were independent, which those of one model are not."),
    Column("at", "Distance", digits=3, importance=42),
    Column("residual", "Residual", unit="sd", digits=2, importance=96,
           meaning="From the line through the points that are no reference."),
    Column("residual_with", "Residual, with references", short="with ref.", unit="sd", digits=2,
           importance=50, meaning="From the line through all points."),
)  # fmt: skip

COLUMNS = {column.key: column for column in (*_TEXT, *_COUNTS, *_NUMBERS)}
"""By field of the parts' rows."""
