"""A table's values as text: the same words for every renderer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.columns import Column, RowValues
from layerwise.report.blocks import Table
from layerwise.report.numbers import NONE, number_style, quantity
from layerwise.report.words import shown

__all__ = ["CHECK", "ColumnText", "drawn_columns", "written"]

CHECK = "●"
_LONGEST = 120


@dataclass(frozen=True)
class ColumnText:
    """A column as text.

    Attributes:
        column: Its declaration.
        unit: What stands under the title: unit and power of ten.
        values: As shown, in `unit`.
        cells: A text a row.
        ends: The interval of each, empty where it has none.
    """

    column: Column
    unit: str
    values: Sequence[Any]
    cells: Sequence[str]
    ends: Sequence[str]

    @property
    def numeric(self) -> bool:
        """Return whether the cells stand to the right, digit under digit."""
        return self.column.form not in {"text", "flag"}


def drawn_columns(table: Table) -> list[Column]:
    """Return the first column, and those that any row has a value for."""
    first, *others = table.columns
    kept = (c for c in others if any(row.get(c.key) is not None for row in table.rows))
    return [first, *kept]


def written(column: Column, rows: Sequence[RowValues]) -> ColumnText:
    """Return the values of `column` as text, all in one style."""
    values = [column.value(row) for row in rows]
    if column.form in {"text", "flag", "quantity"}:
        cells = [_alone(column, value) for value in values]
        return ColumnText(column, "", values, cells, [""] * len(values))
    ends = [column.interval(row) for row in rows]
    style = number_style([*values, *(end for both in ends for end in both or ())], column)
    unit = " ".join(filter(None, (style.suffix, column.unit)))
    cells = [style.text(value) for value in values]
    between = [f"{style.text(both[0])}–{style.text(both[1])}" if both else "" for both in ends]
    return ColumnText(column, unit, values, cells, between)


def _alone(column: Column, value: Any) -> str:
    """Return a value that needs no look at its neighbours."""
    if value is None:
        return "" if column.form == "flag" else NONE
    if column.form == "flag":
        return CHECK if value else ""
    if column.form == "quantity":
        return quantity(value, column.unit)
    return shown(value, limit=_LONGEST)
