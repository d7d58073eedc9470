"""Tables as data frames, CSV and LaTeX: raw values, columns as declared."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from layerwise.report.blocks import Table
from layerwise.report.numbers import NumberStyle
from layerwise.report.words import shown

Form = Callable[[float], str]

#: What a spreadsheet would take for the start of a formula.
_FORMULA = ("=", "+", "-", "@")
_WHOLE_TEXT = 1_000_000
#: Stands for a number's sign until the text around it is escaped.
_MINUS = "\N{MINUS SIGN}"


def frame(table: Table) -> pd.DataFrame:
    """Return the raw values of `table`: a column a declaration, and one an end of its interval."""
    keys = [key for column in table.columns for key in column.fields]
    known = [key for key in keys if any(row.get(key) is not None for row in table.rows)]
    values = {key: [row.get(key) for row in table.rows] for key in known or keys}
    return pd.DataFrame(values)


def csv(data: pd.DataFrame) -> bytes:
    """Return `data` as CSV: text on one line, which no spreadsheet takes for a formula."""

    def harmless(cell: Any) -> Any:
        flat = shown(cell, limit=_WHOLE_TEXT) if isinstance(cell, str) else ""
        return f"'{flat}" if flat.startswith(_FORMULA) else flat or cell

    table = data.map(harmless)
    return table.to_csv(index=False, lineterminator="\n").encode("utf-8", "replace")


def latex(
    table: pd.DataFrame,
    heads: Mapping[str, str],
    *,
    forms: Mapping[str, Form] = MappingProxyType({}),
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
    kept = table.dropna(axis="columns", how="all").infer_objects()
    if kept.empty:
        return b"% There is no such row.\n"
    told = kept.apply(lambda column: column.map(partial(_cell, form=forms.get(column.name))))
    told.columns = pd.Index([heads.get(str(name), shown(name)) for name in kept])
    numeric = [pd.api.types.is_numeric_dtype(kept[name]) for name in kept]
    styler = told.style.hide(axis="index").format(_protected, escape="latex")
    drawn = styler.format_index(escape="latex", axis="columns").to_latex(
        hrules=True,
        column_format="".join("r" if number else "l" for number in numeric),
        environment="longtable" if long else None,
    )
    return drawn.replace(_MINUS, "$-$").encode("utf-8", "replace")


def _cell(cell: Any, form: Form | None) -> str:
    """Return text on one line, counts as they are, other numbers with three decimals.

    A minus sign of ours is a number's only.
    """
    if pd.isna(cell):
        return ""
    if isinstance(cell, bool | np.bool_):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return shown(cell, limit=200).replace(_MINUS, "-")
    whole = isinstance(cell, int | np.integer)
    text = form(cell) if form else f"{cell:,}" if whole else NumberStyle(0, 3).text(cell)
    return text.replace("-", _MINUS)


def _protected(escaped: object) -> str:
    """Return an escaped cell with signs that old fonts lack, and no start that is an argument.

    After the end of a line, ``*`` and ``[`` belong to the command that ends it.
    """
    text = "".join(f"${c}$" if c in "<>|" else c for c in str(escaped))
    return f"{{{text}}}" if text.startswith(("[", "*")) else text
