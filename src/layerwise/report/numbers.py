"""How numbers are written: one way for a column, one for a number alone, one for an interval."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.columns import Column, RowValues
from layerwise.report.words import shown

NONE = "–"
"""Stands where there is no number."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"))
_LONGEST = 120


@dataclass(frozen=True)
class NumberStyle:
    """How all the numbers of one column are written, so that they can be compared at a glance.

    Attributes:
        exponent: A power of ten taken out of every number and put into the heading.
        decimals: Digits after the point.
        percent: Whether they are shares of a hundred.
    """

    exponent: int
    decimals: int
    percent: bool = False

    @property
    def suffix(self) -> str:
        """Return what the heading adds (``"×10⁻⁶"``), empty for plain numbers."""
        return f"×10{str(self.exponent).translate(_SUPERSCRIPTS)}" if self.exponent else ""

    def text(self, value: float | None) -> str:
        """Return `value` in this style; an en dash where there is none."""
        if value is None or math.isnan(value):
            return NONE
        scaled = float(value * 100.0 if self.percent else value / 10.0**self.exponent)
        text = f"{scaled:,.{self.decimals}f}"
        if scaled and not any(digit in text for digit in "123456789"):
            text = f"{scaled:.1g}"
        return f"{text} %" if self.percent else text

    def alone(self, value: float | None) -> str:
        """Return `value` in this style outside a column: with the power of ten beside it."""
        return self.text(value) + (f" {self.suffix}" if value is not None and self.exponent else "")


def number_style(values: Iterable[float | None], column: Column | None = None) -> NumberStyle:
    """Return the style in which the typical one of `values` has three significant digits.

    A `column` may say itself how many decimals its numbers have, and whether they are counts or
    shares.
    """
    if column is not None and column.form == "percent":
        return NumberStyle(0, column.digits or 0, percent=True)
    if column is not None and (column.digits is not None or column.form == "count"):
        return NumberStyle(0, column.digits or 0)
    sizes = sorted(abs(v) for v in values if v and math.isfinite(v))
    if not sizes:
        return NumberStyle(0, 0)
    largest, typical = _decade(sizes[-1]), _decade(sizes[len(sizes) // 2])
    exponent = 3 * (largest // 3) if largest < -2 or largest > 8 else 0
    whole = not exponent and all(size == int(size) for size in sizes)
    return NumberStyle(exponent, 0 if whole else _decimals(typical - exponent))


def _few(values: Sequence[float | None], digits: int | None = None) -> NumberStyle:
    """Return one style for numbers outside a column: no power of ten down to 0.0001."""
    most = max((abs(v) for v in values if v and math.isfinite(v)), default=0.0)
    if digits is None and 1e-4 <= most < 1e-2:
        return NumberStyle(0, 2 - _decade(most))
    return number_style(values) if digits is None else NumberStyle(0, digits)


def _decade(size: float) -> int:
    return math.floor(math.log10(size))


def _decimals(decade: int) -> int:
    return min(max(2 - decade, 0), 5)


def number(value: float | None, *, digits: int | None = None) -> str:
    """Return `value` with three significant digits, or with so many decimals."""
    return _few([value], digits).alone(value)


def interval(
    value: float | None, low: float | None, high: float | None, *, digits: int | None = None
) -> str:
    """Return `value` with both ends of its interval beside it, where it has one, in one style."""
    if value is None or low is None or high is None:
        return number(value, digits=digits)
    style = _few([value, low, high], digits)
    text = f"{style.text(value)} ({style.text(low)} to {style.text(high)})"
    return f"{text} {style.suffix}".rstrip()


def ends(low: float, high: float) -> str:
    """Return both ends of an interval in one style."""
    style = _few([low, high])
    return f"{style.text(low)} to {style.alone(high)}"


def percent(share: float | None, *, digits: int = 0) -> str:
    """Return a share as a percentage; one below a tenth with two significant digits."""
    known = share is not None and math.isfinite(share)
    if share and known and abs(share) < 0.0995:
        digits = max(digits, _decimals(_decade(abs(100 * share))) - 1)
    return NumberStyle(0, digits, percent=True).text(share if known else None)


def quantity(value: float | None, unit: str = "") -> str:
    """Return `value` with an SI prefix and three significant digits: ``"1.23 GB"``."""
    if value is None or not math.isfinite(value):
        return NONE
    size, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s), (1e-6, "µ"))
    if value == 0 or (unit == "s" and size > 1):
        size, prefix = 1.0, ""
    scaled = value / size
    digits = 0 if abs(scaled) >= 100 or scaled == 0 else _decimals(_decade(abs(scaled)))
    return f"{scaled:,.{digits}f} {prefix}{unit}".rstrip()


def told(column: Column, row: RowValues) -> str:
    """Return the value of `column` in `row` by itself, with its interval and unit."""
    value, between = column.value(row), column.interval(row)
    if column.form == "flag":
        return "●" if value else ""
    if column.form == "quantity":
        return quantity(value, column.unit)
    if column.form == "text":
        return NONE if value is None else shown(value, limit=_LONGEST)
    if column.form == "percent":
        text = percent(value, digits=column.digits or 0)
    else:
        text = interval(value, *between or (None, None), digits=column.digits)
    return f"{text} {column.unit}".rstrip()


def counted(count: int, noun: str) -> str:
    """Return ``"1 run"``, ``"2 runs"``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def rounded(value: Any) -> Any:
    """Return a number with six significant digits: finer than a pixel, and half the bytes.

    One that is not finite has no place on a page, nor in JSON: None.
    """
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
