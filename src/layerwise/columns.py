"""A column of a table, declared once beside the signal or record that owns it.

Terminal, HTML, CSV, `frame()`, comparison and docs read the same declaration.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["Column", "Form", "RowValues"]

Form = Literal["number", "count", "percent", "quantity", "text", "flag"]
"""How a value is written: three significant digits, a whole number, a share, with an SI prefix, as
it stands, or as a mark."""


class RowValues(Protocol):
    """What has a value by the key of a column; None where it has none."""

    def get(self, key: str, /) -> Any:
        """Return the value under `key`."""


@dataclass(frozen=True)
class Column:
    """One column as a reader sees it.

    Attributes:
        key: The field of the record's row, and the name in CSV and `frame()`.
        title: Its name in running text and over a wide column.
        short: Its name over a narrow column; the title where empty.
        unit: Unit of the shown number; empty for a pure number.
        form: How its values are written.
        factor: Shown number per recorded number (1000 from seconds to milliseconds).
        meaning: One sentence on what it says.
        reads: One sentence on how to read a high or low value.
        caution: One sentence on when not to trust it.
        low: The field of the interval's lower end; empty where no interval is estimated.
        high: The field of its upper end.
        error: The field of its half-width, where a row holds that in place of both ends.
        band: What that interval is (``"95 % bootstrap interval"``).
        importance: Which columns stay where there is little room: the largest.
        digits: Decimals of its numbers; None where three significant digits decide.
    """

    key: str
    title: str
    short: str = ""
    unit: str = ""
    form: Form = "number"
    factor: float = 1.0
    meaning: str = ""
    reads: str = ""
    caution: str = ""
    low: str = ""
    high: str = ""
    error: str = ""
    band: str = ""
    importance: int = 0
    digits: int | None = None

    @property
    def heading(self) -> str:
        """Return title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def explained(self) -> str:
        """Return what it says, how to read it, and when not to trust it."""
        return " ".join(filter(None, (self.meaning, self.reads, self.caution)))

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields of a row that the column is made of, its value first."""
        return tuple(key for key in (self.key, self.low, self.high, self.error) if key)

    def value(self, row: RowValues) -> Any:
        """Return the value of `row` as it is shown; None where it has none."""
        return self.scaled(row.get(self.key))

    def interval(self, row: RowValues) -> tuple[float, float] | None:
        """Return both ends of the interval of `row` as shown; None where none was estimated."""
        low, high = (row.get(end) if end else None for end in (self.low, self.high))
        centre, half = row.get(self.key), row.get(self.error) if self.error else None
        if centre is not None and half is not None:
            low, high = centre - half, centre + half
        low, high = self.scaled(low), self.scaled(high)
        return None if low is None or high is None else (low, high)

    def scaled(self, value: Any) -> Any:
        """Return `value` as it is shown: in `unit`; None where it is missing or not finite."""
        if value is None or not isinstance(value, int | float) or isinstance(value, bool):
            return value
        return value * self.factor if math.isfinite(value) else None
