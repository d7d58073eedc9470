"""A table's values as text: the same words for every renderer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.columns import Column, RowValues
from layerwise.report.blocks import Table
from layerwise.report.numbers import NumberStyle, number_style, told


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


def written(table: Table) -> list[ColumnText]:
    """Return the drawn columns of `table` as text, the numbers of each in one style."""
    return [_written(column, table.rows) for column in table.drawn]


def _written(column: Column, rows: Sequence[RowValues]) -> ColumnText:
    values = [column.value(row) for row in rows]
    if column.form in {"text", "flag", "quantity"}:
        cells = [told(column, row) for row in rows]
        return ColumnText(column, "", values, cells, [""] * len(values))
    ends = [column.interval(row) for row in rows]
    style = number_style([*values, *(end for both in ends for end in both or ())], column)
    unit = " ".join(filter(None, (style.suffix, column.unit)))
    between = [_between(style, *both) if both else "" for both in ends]
    return ColumnText(column, unit, values, [style.text(value) for value in values], between)


def _between(style: NumberStyle, low: float, high: float) -> str:
    """Return both ends; beside a minus sign a dash would read as another."""
    return (" to " if low < 0 else "–").join(map(style.text, (low, high)))
