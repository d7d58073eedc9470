"""A card's columns as Vega-Lite charts, and those as PNG and SVG files.

Text from outside (model and stack names) enters a specification only as data values; field names,
expressions and marks are ours alone, so that no name can become a field path, an expression, a
signal or an address.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from layerwise.card.record import LayerCard, LayerRow
from layerwise.placement.cost import placement_cost
from layerwise.placement.record import Placement
from layerwise.report.columns import Column, column_named, number_style
from layerwise.report.text import adapted_rows, stack_labels

__all__ = ["LIGHT", "Theme", "chart_config", "charts", "export_charts"]

Spec = dict[str, Any]

SIGNALS = (
    "residual_norm",
    "coherence",
    "activation_energy",
    "effective_rank",
    "attention_entropy",
    "activation_gradient",
    "gain",
)
# These span orders of magnitude by nature; the others are read on a linear scale only.
_MAY_BE_LOG = {"residual_norm", "activation_energy", "activation_gradient", "gain"}
_LOG_ABOVE = 50.0
_TICKS = 12


@dataclass(frozen=True)
class Theme:
    """Colours of a chart, in CSS notation; `series` are told apart also by the colour-blind."""

    ink: str
    muted: str
    grid: str
    paper: str
    series: tuple[str, ...]
    font: str = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


LIGHT = Theme(
    ink="#1c2430",
    muted="#5a6472",
    grid="#e3e6ea",
    paper="#ffffff",
    series=("#2563a8", "#c2571a", "#2f7d57", "#7b4ea3", "#8a6a00", "#a8325e"),
)


@dataclass(frozen=True)
class _Frame:
    """What all charts of one card share.

    Attributes:
        card: The card.
        theme: The colours.
        labels: A label for each stack.
        adapted: Rows that get adapters.
        positions: Where each row stands on the horizontal axis; a gap parts the stacks.
    """

    card: LayerCard
    theme: Theme
    labels: Mapping[str, str]
    adapted: frozenset[int]
    positions: tuple[int, ...]


def charts(
    card: LayerCard, placement: Placement | None = None, *, theme: Theme = LIGHT
) -> dict[str, Spec]:
    """Vega-Lite specifications by chart name, for each column that the card has.

    Filled points are the blocks that `placement` (without one, the card's advice) adapts.

    Raises:
        PlacementError: The placement names a block that the card does not have.
    """
    frame = _frame(card, placement, theme)
    made = {_chart_name(key): _signal_chart(frame, column_named(key)) for key in SIGNALS}
    made["time"] = _time_chart(frame)
    made["memory"] = _memory_chart(frame)
    made["cost-gain"] = _cost_gain_chart(frame, placement)
    return {name: chart.to_dict() for name, chart in made.items() if chart is not None}


def export_charts(card: LayerCard, placement: Placement | None = None) -> dict[str, bytes]:
    """``chart-<name>.png`` and ``chart-<name>.svg`` of each chart, drawn without any network.

    Raises:
        PlacementError: The placement names a block that the card does not have.
    """
    files: dict[str, bytes] = {}
    for name, spec in charts(card, placement).items():
        drawn = spec | {"config": chart_config(LIGHT), "width": 640, "background": LIGHT.paper}
        files[f"chart-{name}.svg"] = vl_convert.vegalite_to_svg(
            drawn, allowed_base_urls=[]
        ).encode()
        files[f"chart-{name}.png"] = vl_convert.vegalite_to_png(
            drawn, scale=2, allowed_base_urls=[]
        )
    return files


def chart_config(theme: Theme) -> Spec:
    """The Vega-Lite configuration that draws a chart in `theme`."""
    text = {"labelColor": theme.muted, "titleColor": theme.muted, "titleFontWeight": "normal"}
    axis = {"gridColor": theme.grid, "domainColor": theme.grid, "tickColor": theme.grid}
    return {
        "background": None,
        "font": theme.font,
        "view": {"stroke": None},
        "axis": text | axis | {"labelFontSize": 11, "titleFontSize": 11, "titlePadding": 8},
        "legend": text | {"orient": "top", "title": None, "labelLimit": 220, "labelFontSize": 11},
        "title": {"color": theme.ink, "anchor": "start", "fontSize": 14, "offset": 12},
        "text": {"color": theme.ink, "fontSize": 11},
        "rule": {"color": theme.muted},
    }


def _frame(card: LayerCard, placement: Placement | None, theme: Theme) -> _Frame:
    order = {stack.name: number for number, stack in enumerate(card.model.stacks)}
    positions = tuple(row + order.get(layer.stack, 0) for row, layer in enumerate(card.layers))
    adapted = frozenset(adapted_rows(card, placement))
    return _Frame(card, theme, stack_labels(card), adapted, positions)


def _chart_name(key: str) -> str:
    return key.replace("_", "-")


def _signal_chart(frame: _Frame, column: Column) -> alt.LayerChart | None:
    points = _points(frame, column)
    if not any(point["value"] is not None for point in points):
        return None
    scale = _value_scale(column, points)
    x, y, colour = _x(frame), alt.Y("value:Q", scale=scale, axis=_value_axis()), _colour(frame)
    base = alt.Chart().encode(x=x, y=y, color=colour)
    layers = [base.mark_line(strokeWidth=1.5, opacity=0.55), *_dots(frame, base)]
    if any(point["low"] is not None for point in points):
        layers[:0] = _intervals(x, colour, scale)
    return _titled(layers, points, frame, column.heading + _log_note(scale), height=170)


def _intervals(x: alt.X, colour: alt.Color, scale: alt.Scale) -> list[alt.Chart]:
    """A pale band for the eye, and whiskers that also show a block without neighbours."""
    low = alt.Y("low:Q", scale=scale, axis=_value_axis())
    ends = alt.Chart().encode(x=x, y=low, y2="high:Q", color=colour)
    return [ends.mark_area(opacity=0.13), ends.mark_rule(opacity=0.6, strokeWidth=1.2)]


def _dots(frame: _Frame, base: alt.Chart) -> list[alt.Chart]:
    """Filled points for adapted blocks, hollow ones for the others."""
    size = 50 if len(frame.card.layers) <= 48 else 24
    told = base.encode(tooltip=alt.Tooltip("tip:N"))
    hollow = told.transform_filter("!datum.adapted").mark_point(
        filled=False, fill=frame.theme.paper, size=size, opacity=1, strokeWidth=1.3
    )
    full = told.transform_filter("datum.adapted").mark_point(
        filled=True, size=1.4 * size, opacity=1
    )
    return [hollow, full]


def _time_chart(frame: _Frame) -> alt.LayerChart | None:
    parts = (("forward", "forward_seconds"), ("backward", "backward_seconds"))
    bars = _bars(frame, [(label, column_named(key)) for label, key in parts])
    return _bar_chart(frame, bars, "Time a batch (ms)")


def _memory_chart(frame: _Frame) -> alt.LayerChart | None:
    bars = _bars(frame, [("", column_named("activation_bytes"))])
    return _bar_chart(frame, bars, column_named("activation_bytes").heading)


def _bar_chart(frame: _Frame, bars: list[Spec], title: str) -> alt.LayerChart | None:
    if not bars:
        return None
    x = alt.X("start:Q", scale=_x_scale(frame), axis=_x_axis(frame), title=None)
    mark = (
        alt.Chart()
        .mark_rect()
        .encode(
            x=x,
            x2="end:Q",
            y=alt.Y("low:Q", axis=_value_axis()),
            y2="high:Q",
            color=_colour(frame),
            opacity=_part_opacity(bars),
            tooltip=alt.Tooltip("tip:N"),
        )
    )
    return _titled([mark], bars, frame, title, height=150)


def _part_opacity(bars: list[Spec]) -> alt.Opacity:
    """Forward paler than backward; no legend where a bar has one part."""
    parts = list(dict.fromkeys(bar["part"] for bar in bars))
    scale = alt.Scale(domain=parts, range=[0.45, 0.9][-len(parts) :])
    legend = alt.Legend() if len(parts) > 1 else None
    return alt.Opacity("part:O", scale=scale, legend=legend)


def _bars(frame: _Frame, parts: Sequence[tuple[str, Column]]) -> list[Spec]:
    """Stacked bars as rectangles: each block's parts from the bottom up."""
    bars = []
    for row, layer in enumerate(frame.card.layers):
        values = [(part, column.value(layer)) for part, column in parts]
        tip = _tip(frame, row, [column for _, column in parts])
        low = 0.0
        for part, value in values:
            if value is not None:
                spot = _spot(frame, row) | {"part": part, "low": low, "high": low + value}
                bars.append(spot | {"tip": tip})
                low += value
    return bars


def _cost_gain_chart(frame: _Frame, placement: Placement | None) -> alt.LayerChart | None:
    """Each block's own gain against the price of reaching down to it."""
    points = _cost_points(frame)
    if not points:
        return None
    scale = _value_scale(column_named("gain"), points)
    x = alt.X("step:Q", scale=alt.Scale(zero=False), axis=alt.Axis(format="%", grid=False))
    x.title = "Training step when adapters reach down to the block, relative to all blocks"
    y = alt.Y("value:Q", scale=scale, axis=_value_axis())
    base = alt.Chart().encode(x=x, y=y, color=_colour(frame))
    labels = base.transform_filter("datum.label != null").mark_text(dy=-10, fontSize=10)
    layers = [*_placement_rule(frame, placement), *_dots(frame, base)]
    layers.append(labels.encode(text="label:N"))
    title = "Coupled gain against cost" + _log_note(scale)
    return _titled(layers, points, frame, title, height=220)


def _cost_points(frame: _Frame) -> list[Spec]:
    card, gain = frame.card, column_named("gain")
    rows = [row for row, layer in enumerate(card.layers) if gain.value(layer) is not None]
    labelled = _labelled(card, rows, frame.adapted)
    points = []
    for row in rows:
        cost = placement_cost(card, tuple(range(row, len(card.layers))))
        tip = f"{_tip(frame, row, [gain])}\nstep from here up: {cost.step_ratio:.0%} of all blocks"
        label = str(card.layers[row].index) if row in labelled else None
        point = {"step": cost.step_ratio, "value": gain.value(card.layers[row]), "low": None}
        points.append(_spot(frame, row) | point | {"tip": tip, "label": label})
    return points


def _labelled(card: LayerCard, rows: Sequence[int], adapted: Iterable[int]) -> set[int]:
    """The few rows whose number is written beside their point: more would overlap."""
    if len(rows) <= 12:
        return set(rows)
    top = sorted(rows, key=lambda row: -(card.layers[row].gain or 0.0))[:3]
    marked = [row for row in adapted if row in rows]
    return {rows[0], rows[-1], top[0], *(marked if len(marked) <= 8 else top)}


def _placement_rule(frame: _Frame, placement: Placement | None) -> list[alt.LayerChart]:
    """A dashed line at what a step with the placement costs."""
    if placement is None or placement.cost is None:
        return []
    spot = {"step": placement.cost.step_ratio, "text": "this placement"}
    base = alt.Chart(alt.InlineData(values=[spot])).encode(x="step:Q")
    rule = base.mark_rule(strokeDash=[4, 3])
    text = base.mark_text(align="left", baseline="top", dx=4, color=frame.theme.muted)
    return [alt.layer(rule, text.encode(y=alt.value(0), text="text:N"))]


def _points(frame: _Frame, column: Column) -> list[Spec]:
    points = []
    for row, layer in enumerate(frame.card.layers):
        low, high = column.interval(layer) or (None, None)
        point = {"value": column.value(layer), "low": low, "high": high}
        points.append(_spot(frame, row) | point | {"tip": _tip(frame, row, [column])})
    return points


def _spot(frame: _Frame, row: int) -> Spec:
    x = frame.positions[row]
    return {
        "x": x,
        "start": x - 0.38,
        "end": x + 0.38,
        "stack": frame.labels[frame.card.layers[row].stack],
        "adapted": row in frame.adapted,
    }


def _tip(frame: _Frame, row: int, columns: Sequence[Column]) -> str:
    layer = frame.card.layers[row]
    stack = f"{frame.labels[layer.stack]} " if len(frame.labels) > 1 else ""
    head = f"{stack}block {layer.index}" + (" · adapted" if row in frame.adapted else "")
    return "\n".join([head, *(f"{c.title}: {_reading(c, layer)}" for c in columns)])


def _reading(column: Column, layer: LayerRow) -> str:
    value, ends = column.value(layer), column.interval(layer)
    style = number_style([value])
    told = f"{style.text(value)}"
    if ends:
        told += f" ({style.text(ends[0])} to {style.text(ends[1])})"
    return " ".join(part for part in (told, style.suffix, column.unit) if part)


def _titled(
    layers: Sequence[alt.Chart | alt.LayerChart],
    data: list[Spec],
    frame: _Frame,
    title: str,
    *,
    height: int,
) -> alt.LayerChart:
    chart = alt.layer(*layers, data=alt.InlineData(values=data))
    count = len(frame.card.layers)
    about = f"{title}, {count} block{'s' if count > 1 else ''}"
    return chart.properties(title=title, description=about, height=height, width=460)


def _value_scale(column: Column, points: Sequence[Spec]) -> alt.Scale:
    ends = [v for p in points for v in (p["value"], p["low"]) if v is not None]
    if column.key == "coherence":
        return alt.Scale(domain=[0, 1])
    wide = min(ends) > 0 and max(ends) / min(ends) > _LOG_ABOVE
    if column.key in _MAY_BE_LOG and wide:
        return alt.Scale(type="log")
    return alt.Scale(zero=False, nice=True)


def _log_note(scale: alt.Scale) -> str:
    return ", log scale" if scale.to_dict().get("type") == "log" else ""


def _value_axis() -> alt.Axis:
    return alt.Axis(title=None, tickCount=5, format="~g", domain=False, ticks=False)


def _x(frame: _Frame) -> alt.X:
    return alt.X("x:Q", scale=_x_scale(frame), axis=_x_axis(frame), title=None)


def _x_scale(frame: _Frame) -> alt.Scale:
    last = max(frame.positions, default=0)
    return alt.Scale(domain=[-0.6, last + 0.6], nice=False, zero=False)


def _x_axis(frame: _Frame) -> alt.Axis:
    """Block numbers under the axis, counted from 0 in each stack."""
    layers, positions = frame.card.layers, frame.positions
    step = next(s for s in (1, 2, 4, 5, 10, 20, 50, 10_000) if len(layers) / s <= _TICKS)
    ticks = [x for x, layer in zip(positions, layers, strict=True) if layer.index % step == 0]
    return alt.Axis(
        values=ticks, labelExpr=_index_expression(frame), grid=False, labelOverlap="greedy"
    )


def _index_expression(frame: _Frame) -> str:
    """A Vega expression from an axis position to the block's index; of our own numbers alone."""
    starts = [
        x for x, layer in zip(frame.positions, frame.card.layers, strict=True) if layer.index == 0
    ]
    expression = "datum.value"
    for start in starts[1:]:  # The last, outermost test is for the last stack.
        expression = f"datum.value >= {start} ? datum.value - {start} : ({expression})"
    return f"format({expression}, 'd')"


def _colour(frame: _Frame) -> alt.Color:
    names, series = list(frame.labels.values()), frame.theme.series
    colours = [series[number % len(series)] for number in range(len(names))]
    legend = alt.Legend() if len(names) > 1 else None
    return alt.Color("stack:N", scale=alt.Scale(domain=names, range=colours), legend=legend)
