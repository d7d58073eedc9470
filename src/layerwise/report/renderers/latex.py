"""Data frames as LaTeX, for a paper."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from layerwise.report.numbers import NumberStyle
from layerwise.report.words import shown

#: Stands for a number's sign until the text around it is escaped.
_MINUS = "\N{MINUS SIGN}"

Form = Callable[[float], str]


def latex(
    table: pd.DataFrame,
    heads: Mapping[str, str],
    *,
    forms: Mapping[str, Form] | None = None,
    long: bool = False,
) -> bytes:
    """Return `table` in LaTeX, without columns that are empty throughout.

    It needs the packages booktabs and longtable; all text is escaped, and a table without rows is a
    comment.

    Args:
        table: Numbers and text.
        heads: Titles of columns; others go by their names.
        forms: How the numbers of a column are written; others have three decimals.
        long: Whether the table may run over pages.
    """
    kept = table.dropna(axis="columns", how="all")
    if kept.empty:
        return b"% There is no such row.\n"
    numbers = [name for name in kept if pd.api.types.is_numeric_dtype(kept[name].infer_objects())]
    forms = forms or {}
    columns = [kept[n].map(_figure(forms.get(str(n)))) if n in numbers else kept[n].map(_text)
               for n in kept]  # fmt: skip
    told = pd.concat(columns, axis="columns")
    told.columns = [heads.get(str(n), shown(n)) for n in kept]
    layout = "".join("r" if name in numbers else "l" for name in kept)
    styler = told.style.hide(axis="index").format(_protected, escape="latex")
    drawn = styler.format_index(escape="latex", axis="columns").to_latex(
        hrules=True, column_format=layout, environment="longtable" if long else None
    )
    return drawn.replace(_MINUS, "$-$").encode("utf-8", "replace")


def _text(cell: object) -> str:
    """Return text on one line; a minus sign of ours is a number's only."""
    missing = cell is None or cell != cell  # noqa: PLR0124  # NaN is what differs from itself
    return "" if missing else shown(cell, limit=200).replace(_MINUS, "-")


def _figure(form: Form | None) -> Callable[[Any], str]:
    """Return how numbers are written: counts as they are, others with three decimals."""

    def told(value: Any) -> str:
        if pd.isna(value):
            return ""
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        whole = isinstance(value, int | np.integer)
        text = form(value) if form else f"{value:,}" if whole else NumberStyle(0, 3).text(value)
        return text.replace("-", _MINUS)

    return told


def _protected(escaped: object) -> str:
    """Return an escaped cell with signs that old fonts lack, and no start that is an argument.

    After the end of a line, ``*`` and ``[`` belong to the command that ends it.
    """
    text = "".join(f"${c}$" if c in "<>|" else c for c in str(escaped))
    return f"{{{text}}}" if text.startswith(("[", "*")) else text
