"""The card's columns for people, and one way of writing their numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from layerwise.card.columns import card_columns
from layerwise.columns import Column

__all__ = ["Column", "NumberStyle", "card_columns", "column_named", "number_style", "quantity"]

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def column_named(key: str) -> Column:
    """The column of the field `key`."""
    return next(column for column in card_columns() if column.key == key)


@dataclass(frozen=True)
class NumberStyle:
    """How all the numbers of one column are written, so that they can be compared at a glance.

    Attributes:
        exponent: A power of ten taken out of every number and put into the heading.
        decimals: Digits after the point.
    """

    exponent: int
    decimals: int

    @property
    def suffix(self) -> str:
        """What the heading adds (``"×10⁻⁶"``), empty for plain numbers."""
        return f"×10{str(self.exponent).translate(_SUPERSCRIPTS)}" if self.exponent else ""

    def text(self, value: float | None) -> str:
        """`value` in this style; an en dash where there is none."""
        if value is None:
            return "–"
        scaled = self.scaled(value)
        text = f"{scaled:,.{self.decimals}f}"
        if scaled and not any(digit in text for digit in "123456789"):
            return f"{scaled:.1g}"
        return text

    def scaled(self, value: float) -> float:
        """`value` without the power of ten that the heading has."""
        return float(value / 10.0**self.exponent)

    def alone(self, value: float | None) -> str:
        """`value` in this style outside a column: with the power of ten beside it."""
        return self.text(value) + (f" {self.suffix}" if value is not None and self.exponent else "")


def number_style(values: Iterable[float | None]) -> NumberStyle:
    """The style in which the typical one of `values` has three significant digits."""
    sizes = sorted(abs(v) for v in values if v)
    if not sizes:
        return NumberStyle(0, 0)
    largest, typical = _decade(sizes[-1]), _decade(sizes[len(sizes) // 2])
    whole = all(size == int(size) for size in sizes)
    exponent = 3 * (largest // 3) if largest < -2 or largest > 8 else 0
    return NumberStyle(exponent, 0 if whole and not exponent else _decimals(typical - exponent))


def _decade(size: float) -> int:
    return math.floor(math.log10(size))


def _decimals(decade: int) -> int:
    return min(max(2 - decade, 0), 5)


def quantity(value: float, unit: str) -> str:
    """`value` with an SI prefix and three significant digits (``"1.23 GB"``, ``"4.5 s"``)."""
    prefixes = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"))
    size, prefix = next(((s, p) for s, p in prefixes if abs(value) >= s), (1e-6, "µ"))
    if value == 0 or (unit == "s" and size > 1):
        size, prefix = 1.0, ""
    scaled = value / size
    digits = 0 if abs(scaled) >= 100 or scaled == 0 else _decimals(_decade(abs(scaled)))
    text = f"{scaled:,.{digits}f}"
    return f"{text} {prefix}{unit}".rstrip()
