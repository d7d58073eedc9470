"""The card's columns for people: title, unit, meaning, and one way of writing their numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from layerwise.card.record import LayerRow

__all__ = ["COLUMNS", "Column", "NumberStyle", "column_named", "number_style", "quantity"]

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Column:
    """One signal or cost as a reader sees it.

    Attributes:
        key: The field of `LayerRow`.
        title: Its name in running text.
        short: Its name over a narrow column.
        meaning: One sentence on what it says.
        unit: Unit of the shown number; empty for a pure number.
        factor: Shown number per recorded number (1000 from seconds to milliseconds).
        reads: One sentence on how to read a high or low value.
        band: What the interval around the value is.
    """

    key: str
    title: str
    short: str
    meaning: str
    unit: str = ""
    factor: float = 1.0
    reads: str = ""
    band: str = ""

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def value(self, row: LayerRow) -> float | None:
        """The number of `row` in `unit`; None where the model has no such signal."""
        return self._scaled(getattr(row, self.key))

    def interval(self, row: LayerRow) -> tuple[float, float] | None:
        """Both ends of the interval of `row` in `unit`; None where none was estimated."""
        if self.key == "residual_norm":
            ends = (row.residual_norm_low, row.residual_norm_high)
        elif self.key == "attention_entropy":
            ends = _around(row.attention_entropy, row.attention_entropy_error)
        else:
            return None
        low, high = self._scaled(ends[0]), self._scaled(ends[1])
        return None if low is None or high is None else (low, high)

    def _scaled(self, value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else value * self.factor


def _around(
    centre: float | None, half_width: float | None
) -> tuple[float, float] | tuple[None, None]:
    if centre is None or half_width is None:
        return None, None
    return centre - half_width, centre + half_width


COLUMNS = (
    Column(
        "residual_norm",
        "Residual norm",
        "resid.",
        "Expected norm of the adapter gradient over the root of the activation energy, with its "
        "95 % bootstrap interval: how much correctable signal reaches the block.",
        reads="High: an adapter here has much to correct.",
        band="95 % bootstrap interval",
    ),
    Column(
        "coherence",
        "Gradient coherence",
        "coher.",
        "Norm of the mean adapter gradient over the mean norm, from 0 (examples pull in different "
        "directions) to 1 (all agree).",
        reads="High: the examples agree on the correction.",
    ),
    Column(
        "activation_energy",
        "Activation energy",
        "energy",
        "Mean squared entry of the inputs of the adapted modules.",
        reads="High: the same adapter weights move the output further.",
    ),
    Column(
        "effective_rank",
        "Effective rank",
        "eff. rank",
        "Exponential of the entropy of the normalised eigenvalues of the input covariance: in how "
        "many directions the inputs spread.",
        reads="High: well conditioned; low: a few directions dominate.",
    ),
    Column(
        "attention_entropy",
        "Attention entropy",
        "entropy",
        "Mean entropy of the attention rows; where query rows were sampled, with its 99 % "
        "interval.",
        "nats",
        reads="Low: attention is saturated on few tokens.",
        band="99 % interval of the sampled rows",
    ),
    Column(
        "activation_gradient",
        "Activation gradient",
        "act. grad",
        "Mean per-example norm of the gradient of the loss at the block's output.",
        reads="Low: little of the loss reaches back to this depth.",
    ),
    Column(
        "gain",
        "Coupled gain",
        "gain",
        "Predicted fall of the loss from adapting this block alone, with the damped empirical "
        "Fisher as curvature.",
        reads="High: this block alone promises more. Gains of several blocks do not add up.",
    ),
    Column(
        "forward_seconds",
        "Forward time",
        "fwd",
        "Time a batch spends in the block's forward pass.",
        "ms",
        1e3,
    ),
    Column(
        "backward_seconds",
        "Backward time",
        "bwd",
        "Time a batch spends in the block's backward pass, its weights frozen.",
        "ms",
        1e3,
    ),
    Column(
        "adapter_seconds",
        "Adapter time",
        "adapt.",
        "Time a batch spends in adapters on all targets of the block, forward and backward.",
        "ms",
        1e3,
    ),
    Column(
        "activation_bytes",
        "Saved activations",
        "saved",
        "Memory a batch keeps for the block's backward pass.",
        "MB",
        1e-6,
    ),
    Column(
        "adapter_parameters",
        "Adapter parameters",
        "params",
        "Trainable parameters of adapters on all targets of the block.",
    ),
)


def column_named(key: str) -> Column:
    """The column of the field `key`."""
    return next(column for column in COLUMNS if column.key == key)


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
