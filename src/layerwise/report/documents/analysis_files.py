"""The parts of an analysis as CSV and LaTeX files."""

import pandas as pd

from layerwise.analysis.columns import COLUMNS
from layerwise.analysis.names import EQUAL_STEP, FIVE, METRICS
from layerwise.analysis.paper_tables import PAPER_TABLES
from layerwise.analysis.record import PARTS, Analysis
from layerwise.report.documents.analysis import p_text
from layerwise.report.renderers.frames import csv, latex

#: Parts that are no LaTeX tables: the slopes are set apart, a column a condition.
_CSV_ONLY = ("models", "slopes", "mean_slopes", "fits", "points")
_KEYS = ("model", "objective")


def analysis_files(analysis: Analysis) -> dict[str, bytes]:
    """Return ``<part>.csv`` of every part, and ``<table>.tex`` of those that a paper shows.

    Beside them ``paper-<table>.csv``, the tables of arXiv 2604.17177 made of this analysis.
    """
    frames = {part.replace("_", "-"): analysis.frame(part) for part in PARTS}
    whole = {part.replace("_", "-") for part in PARTS if part not in _CSV_ONLY}
    names = {str(name) for frame in frames.values() for name in frame}
    heads = {name: name.replace("_", " ").capitalize() for name in names}
    heads |= {"ratio_low": "Ratio, low", "ratio_high": "Ratio, high"}
    heads |= {name: column.title for name, column in COLUMNS.items()}
    files = {f"{name}.csv": csv(frame) for name, frame in frames.items()}
    files |= {
        f"{name}.tex": latex(frame, heads, forms={"p_value": p_text})
        for name, frame in frames.items()
        if name in whole
    }
    files |= {f"paper-{name}.csv": csv(table(analysis)) for name, table in PAPER_TABLES.items()}
    return files | {
        f"slopes-{metric}.tex": latex(
            _by_condition(analysis, metric), {key: heads[key] for key in _KEYS}, long=True
        )
        for metric in METRICS
    }


def _by_condition(analysis: Analysis, metric: str) -> pd.DataFrame:
    """Return the slopes of a metric, a line a model and objective, a column a condition."""
    table = analysis.frame("mean_slopes")
    own = table[table["metric"] == metric]
    order = [name for name in (*FIVE, EQUAL_STEP) if name in set(own["condition"])]
    order += sorted(set(own["condition"]) - set(order))
    wide = own.pivot_table(
        index=list(_KEYS), columns="condition", values="slope", sort=False
    ).reindex(columns=order)
    names = {name: f"{name} (condition)" for name in order if name in _KEYS}
    return wide.rename(columns=names).rename_axis(columns=None).reset_index()
