"""The one table that all charts of a card are drawn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.card.record import LayerCard, LayerRow
from layerwise.placement.cost import placement_cost
from layerwise.placement.record import Placement
from layerwise.report.old.columns import COLUMNS, Column, NumberStyle, column_named, number_style
from layerwise.report.old.drawing import Places, Rows, log_axis, short
from layerwise.report.old.text import adapted_rows, stack_labels

__all__ = ["DRAWN", "ChartData", "chart_data"]

# These span orders of magnitude by nature; the others are read on a linear scale only.
_MAY_BE_LOG = {"residual_norm", "activation_energy", "activation_gradient", "gain"}
_LOG_ABOVE = 20.0
DRAWN = tuple(column for column in COLUMNS if column.key != "adapter_parameters")
_TIME = ("forward_seconds", "backward_seconds")


@dataclass(frozen=True)
class ChartData:
    """Rows of numbers, one a block, and how they are to be read.

    Attributes:
        rows: JSON values by field: ``x`` (the block's place on a shared axis, on which a gap parts
            the stacks), ``start`` and ``end`` (of a bar there), ``index``, ``stack`` (its label),
            ``adapted``, ``head`` (the block in words); for each column that the block has its
            value, ``_low`` and ``_high`` ends and ``_tip`` (its reading in words).
        stacks: The labels of the stacks, in the order in which they run.
        styles: How the numbers of each column were scaled.
    """

    rows: Rows
    stacks: tuple[str, ...]
    styles: Mapping[str, NumberStyle]

    @property
    def places(self) -> Places:
        """The axis that ``x`` is on."""
        return Places(tuple((row["x"], row["index"]) for row in self.rows))

    def has(self, field: str) -> bool:
        """Whether any block has a number in `field`."""
        return any(row.get(field) is not None for row in self.rows)

    def log_axis(self, key: str) -> tuple[list[float], list[float]] | None:
        """Domain and ticks of a logarithmic axis for a column; None where it is to be linear."""
        fields = (key, f"{key}_low", f"{key}_high")
        ends = [v for row in self.rows for f in fields if (v := row.get(f)) is not None]
        if key not in _MAY_BE_LOG or min(ends) <= 0 or max(ends) / min(ends) <= _LOG_ABOVE:
            return None
        return log_axis(min(ends), max(ends))

    def title(self, column: Column, *, against: str = "") -> str:
        """A chart's title: column, unit, power of ten, and a word where the scale is not linear."""
        unit = " ".join(part for part in (self.styles[column.key].suffix, column.unit) if part)
        title = f"{column.title} against {against}" if against else column.title
        log = ", log scale" if self.log_axis(column.key) else ""
        return title + (f" ({unit})" if unit else "") + log


def chart_data(card: LayerCard, placement: Placement | None) -> ChartData:
    """The numbers of `card` ready to draw, with the blocks of `placement` marked.

    Raises:
        PlacementError: The placement names a block that the card does not have.
    """
    labels, adapted = stack_labels(card.model), set(adapted_rows(card, placement))
    styles = {c.key: number_style(c.value(layer) for layer in card.layers) for c in COLUMNS}
    stacks = list(labels)
    rows = []
    for number, layer in enumerate(card.layers):
        x = number + stacks.index(layer.stack)
        spot = {"x": x, "start": x - 0.38, "end": x + 0.38, "index": layer.index}
        marked = number in adapted
        told = {"stack": labels[layer.stack], "adapted": marked}
        told["head"] = _head(layer, labels, marked=marked)
        rows.append(spot | told | _numbers(layer, styles))
    _add_costs(card, rows, adapted)
    return ChartData(rows, tuple(labels.values()), styles)


def _head(layer: LayerRow, labels: Mapping[str, str], *, marked: bool) -> str:
    stack = f"{labels[layer.stack]} " if len(labels) > 1 else ""
    return f"{stack}block {layer.index}" + (" · adapted" if marked else "")


def _numbers(layer: LayerRow, styles: Mapping[str, NumberStyle]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for column in DRAWN:
        style, value, ends = styles[column.key], column.value(layer), column.interval(layer)
        if value is None:
            continue
        fields[column.key] = short(style.scaled(value))
        fields[f"{column.key}_tip"] = _reading(column, layer)
        if ends:
            low, high = (short(style.scaled(end)) for end in ends)
            fields |= {f"{column.key}_low": low, f"{column.key}_high": high}
    return fields | _time(layer)


def _time(layer: LayerRow) -> dict[str, Any]:
    """Backward stacked on forward, in milliseconds whatever the columns' own styles are."""
    forward, backward = (column_named(key).value(layer) for key in _TIME)
    if forward is None and backward is None:
        return {}
    both = (forward or 0.0) + (backward or 0.0)
    return {"time_forward": short(forward or 0.0), "time_both": short(both)}


def _reading(column: Column, layer: LayerRow) -> str:
    """A column's number of one block in words, with its interval and unit."""
    value, ends = column.value(layer), column.interval(layer)
    style = number_style([value])
    told = style.text(value)
    if ends:
        told += f" ({style.text(ends[0])} to {style.text(ends[1])})"
    return " ".join(part for part in (told, style.suffix, column.unit) if part)


def _add_costs(card: LayerCard, rows: Rows, adapted: set[int]) -> None:
    """Put into `rows` what a training step costs whose lowest adapter is the block."""
    gains = [number for number, row in enumerate(rows) if row.get("gain") is not None]
    labelled = _labelled(card, gains, adapted)
    for number in gains:
        cost = placement_cost(card, range(number, len(rows)))
        if cost is None:
            return
        step = cost.step_ratio
        tip = f"{step:.0%} of all blocks"
        label = str(card.layers[number].index) if number in labelled else ""
        rows[number] |= {"step": short(step), "step_tip": tip, "label": label}


def _labelled(card: LayerCard, rows: Sequence[int], adapted: set[int]) -> set[int]:
    """The few rows whose number is written beside their point: more would overlap."""
    if len(rows) <= 12:
        return set(rows)
    top = sorted(rows, key=lambda row: -(card.layers[row].gain or 0.0))[:3]
    marked = [row for row in rows if row in adapted]
    return {rows[0], rows[-1], top[0], *(marked if len(marked) <= 8 else top)}
