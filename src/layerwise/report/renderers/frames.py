"""Tables as data frames, CSV and LaTeX: raw values, columns as declared."""

import pandas as pd

from layerwise.report.blocks import Table
from layerwise.report.renderers.cells import drawn_columns
from layerwise.report.words import shown

#: What a spreadsheet would take for the start of a formula.
_FORMULA = ("=", "+", "-", "@")
_WHOLE_TEXT = 1_000_000


def frame(table: Table) -> pd.DataFrame:
    """Return the raw values of `table`: a column a declaration, and one an end of its interval."""
    keys = [key for column in drawn_columns(table) for key in column.fields]
    known = [key for key in keys if any(row.get(key) is not None for row in table.rows)]
    values = {key: [row.get(key) for row in table.rows] for key in known or keys}
    return pd.DataFrame(values)


def csv(data: pd.DataFrame) -> bytes:
    """Return `data` as CSV: text on one line, which no spreadsheet takes for a formula."""
    harmless = data.map(lambda cell: _harmless(cell) if isinstance(cell, str) else cell)
    return harmless.to_csv(index=False, lineterminator="\n").encode("utf-8", "replace")


def _harmless(text: str) -> str:
    flat = shown(text, limit=_WHOLE_TEXT)
    return f"'{flat}" if flat.startswith(_FORMULA) else flat
