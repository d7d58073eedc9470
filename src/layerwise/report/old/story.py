"""What a profile and a control say, in words: the same on a page and on a terminal."""

import math
from collections.abc import Sequence

from layerwise.report.old.columns import NumberStyle, number_style

__all__ = ["number", "percent", "span", "with_interval"]


def number(value: float | None) -> str:
    """`value` with three significant digits."""
    return _style([value]).alone(value)


def _style(values: Sequence[float | None]) -> NumberStyle:
    """One style for `values`, without a power of ten down to 0.0001."""
    most = max((abs(value) for value in values if value), default=0.0)
    if 1e-4 <= most < 1e-2:
        return NumberStyle(0, 2 - math.floor(math.log10(most)))
    return number_style(values)


def percent(share: float) -> str:
    """A share as a whole percentage."""
    return f"{share:.0%}".replace("%", " %")


def span(value: float, low: float, high: float) -> tuple[str, str]:
    """`value`, and both ends of its interval, in one style."""
    style = _style([value, low, high])
    return style.alone(value), f"{style.text(low)} to {style.alone(high)}"


def with_interval(value: float, low: float, high: float) -> str:
    """`value` with both ends of its interval beside it, in one style."""
    style = _style([value, low, high])
    text = f"{style.text(value)} ({style.text(low)} to {style.text(high)})"
    return f"{text} {style.suffix}".rstrip()
