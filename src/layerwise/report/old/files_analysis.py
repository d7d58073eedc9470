"""The tables of an analysis as CSV and LaTeX files."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from layerwise.analysis.names import DEPTHS, EQUAL_STEP, FIVE, METRICS
from layerwise.analysis.record import PARTS, Analysis
from layerwise.report.old.story import percent
from layerwise.report.old.story_analysis import fixed, p_text
from layerwise.report.old.text import shown

__all__ = ["analysis_tables"]

#: What a spreadsheet would take for the start of a formula.
_FORMULA = ("=", "+", "-", "@")

_WHOLE_TEXT = 1_000_000

#: Parts that are LaTeX tables as they stand; slopes are set apart, a column a condition.
_WHOLE = (
    "shares",
    "negative",
    "disagreements",
    "equal_step",
    "sign_counts",
    "widths",
    "concordance",
    "sign_tests",
    "pooled",
    "anomalies",
)

_HEADS = {
    "p_value": "p",
    "rho": "Spearman",
    "low": "Low",
    "high": "High",
    "ratio_low": "Ratio, low",
    "ratio_high": "Ratio, high",
    "equal_step": "Equal-step",
    "at": "Distance",
    "distance": "Distance by",
    "cka": "CKA",
    **{name: percent(float(name[1:])) for name in DEPTHS},
}

_KEYS = ("model", "objective")

#: Stands for a number's sign until the text around it is escaped.
_MINUS = "\N{MINUS SIGN}"


def analysis_tables(analysis: Analysis) -> dict[str, bytes]:
    """``<part>.csv`` of every part, and ``<table>.tex`` of those that a paper shows.

    In CSV, text is on one line, and has an apostrophe before it where a spreadsheet would run it
    as a formula. The LaTeX tables need the packages booktabs and longtable; all text in them is
    escaped, and a table without rows is a comment.
    """
    files = {f"{_file(part)}.csv": _csv(analysis.frame(part)) for part in PARTS}
    files |= {f"{_file(part)}.tex": _latex(analysis.frame(part)) for part in _WHOLE}
    files |= {
        f"slopes-{metric}.tex": _latex(_by_condition(analysis, metric), long=True)
        for metric in METRICS
    }
    return files


def _file(part: str) -> str:
    return part.replace("_", "-")


def _csv(table: pd.DataFrame) -> bytes:
    harmless = table.map(lambda cell: _harmless(cell) if isinstance(cell, str) else cell)
    return harmless.to_csv(index=False, lineterminator="\n").encode("utf-8", "replace")


def _harmless(text: str) -> str:
    """`text` on one line, which no spreadsheet takes for a formula."""
    flat = shown(text, limit=_WHOLE_TEXT)
    return f"'{flat}" if flat.startswith(_FORMULA) else flat


def _by_condition(analysis: Analysis, metric: str) -> pd.DataFrame:
    """The slopes of a metric, a line a model and objective, a column a condition."""
    table = analysis.frame("mean_slopes")
    own = table[table["metric"] == metric]
    order = [name for name in (*FIVE, EQUAL_STEP) if name in set(own["condition"])]
    order += sorted(set(own["condition"]) - set(order))
    wide = own.pivot_table(
        index=["model", "objective"], columns="condition", values="slope", sort=False
    ).reindex(columns=order)
    names = {name: f"{name} (condition)" for name in order if name in _KEYS}
    return wide.rename(columns=names).rename_axis(columns=None).reset_index()


def _latex(table: pd.DataFrame, *, long: bool = False) -> bytes:
    """The table in LaTeX, without columns that are empty throughout."""
    kept = table.dropna(axis="columns", how="all")
    if kept.empty:
        return b"% There is no such row.\n"
    numbers = [name for name in kept if pd.api.types.is_numeric_dtype(kept[name].infer_objects())]
    columns = [kept[n].map(_figure(str(n)) if n in numbers else _text) for n in kept]
    told = pd.concat(columns, axis="columns")
    told.columns = [_heading(str(n), condition=long and n not in _KEYS) for n in kept]
    layout = "".join("r" if name in numbers else "l" for name in kept)
    styler = told.style.hide(axis="index").format(_protected, escape="latex")
    latex = styler.format_index(escape="latex", axis="columns").to_latex(
        hrules=True, column_format=layout, environment="longtable" if long else None
    )
    return latex.replace(_MINUS, "$-$").encode("utf-8", "replace")


def _heading(name: str, *, condition: bool) -> str:
    """What a column is headed with; conditions go by their own names."""
    if condition:
        return shown(name)
    return _HEADS.get(name) or name.replace("_", " ").capitalize()


def _text(cell: object) -> str:
    """Text on one line; a minus sign of ours is a number's only."""
    missing = cell is None or cell != cell  # noqa: PLR0124  # NaN is what differs from itself
    return "" if missing else shown(cell, limit=200).replace(_MINUS, "-")


def _figure(name: str) -> Callable[[Any], str]:
    """How the numbers of a column are written."""

    def told(value: Any) -> str:
        if pd.isna(value):
            return ""
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        text = p_text(value) if name == "p_value" else _plain(value)
        return text.replace("-", _MINUS)

    return told


def _plain(value: float) -> str:
    """A count as it is, any other number with three decimals."""
    return f"{value:,}" if isinstance(value, int | np.integer) else fixed(value)


def _protected(escaped: object) -> str:
    """An escaped cell with signs that old fonts lack, and no start that reads as an argument.

    After the end of a line, ``*`` and ``[`` belong to the command that ends it.
    """
    text = "".join(f"${c}$" if c in "<>|" else c for c in str(escaped))
    return f"{{{text}}}" if text.startswith(("[", "*")) else text
