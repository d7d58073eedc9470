"""A card's columns as Vega-Lite charts, and those as PNG and SVG files."""

from collections.abc import Sequence

import altair as alt

from layerwise.card.record import LayerCard
from layerwise.placement.record import Placement
from layerwise.report.old.charts_card_data import DRAWN, ChartData, chart_data
from layerwise.report.old.columns import Column, column_named
from layerwise.report.old.drawing import (
    LIGHT,
    Spec,
    Theme,
    block_axis,
    dots,
    exported,
    plain_axis,
    titled,
    with_data,
)
from layerwise.report.old.text import counted

__all__ = ["SIGNALS", "charts", "export_charts"]

SIGNALS = (
    "residual_norm",
    "coherence",
    "activation_energy",
    "effective_rank",
    "attention_entropy",
    "activation_gradient",
    "gain",
)


def charts(
    card: LayerCard, placement: Placement | None = None, *, theme: Theme = LIGHT
) -> dict[str, Spec]:
    """Vega-Lite specifications by chart name, for each column that the card has.

    Filled points are the blocks that `placement` (without one, the card's advice) adapts. All
    charts are drawn from one data set, which each holds under ``datasets``.

    Raises:
        PlacementError: The placement names a block that the card does not have.
    """
    data = chart_data(card, placement)
    made = {
        key.replace("_", "-"): _signal_chart(data, theme, column_named(key))
        for key in SIGNALS
        if data.has(key)
    }
    if data.has("time_both"):
        made["time"] = _time_chart(data, theme)
    if data.has("activation_bytes"):
        made["memory"] = _memory_chart(data, theme)
    if data.has("gain") and data.has("step"):
        made["cost-gain"] = _cost_gain_chart(data, theme, placement)
    return {name: with_data(chart, {"blocks": data.rows}) for name, chart in made.items()}


def export_charts(card: LayerCard, placement: Placement | None = None) -> dict[str, bytes]:
    """``chart-<name>.png`` and ``chart-<name>.svg`` of each chart, drawn without any network.

    Raises:
        PlacementError: The placement names a block that the card does not have.
    """
    return exported(charts(card, placement))


def _signal_chart(data: ChartData, theme: Theme, column: Column) -> alt.LayerChart:
    key, axis, colour = column.key, _value_axis(data, column.key), _colour(data, theme)
    base = alt.Chart().encode(x=block_axis("x", data.places), color=colour)
    points = base.encode(y=alt.Y(f"{key}:Q", **axis))
    layers = [points.mark_line(strokeWidth=1.5, opacity=0.55), _dots(data, theme, points, key)]
    if data.has(f"{key}_low"):
        # A pale band for the eye, and whiskers that also show a block without neighbours.
        ends = base.encode(y=alt.Y(f"{key}_low:Q", **axis), y2=f"{key}_high:Q")
        whiskers = ends.mark_rule(opacity=0.6, strokeWidth=1.2)
        layers[:0] = [ends.mark_area(opacity=0.13), whiskers]
    return _titled(layers, data.title(column), data, height=170)


def _dots(data: ChartData, theme: Theme, points: alt.Chart, *keys: str) -> alt.Chart:
    """Filled points for adapted blocks, hollow ones for the others."""
    colour = alt.Fill("stack:N", scale=_stack_scale(data, theme), legend=_stack_legend(data))
    many = len(data.rows) > 48
    return dots(points.encode(tooltip=_tip(*keys)), colour, theme, mark="adapted", many=many)


def _tip(*keys: str) -> list[alt.Tooltip]:
    """The block, and what `keys` are there; the page's own tooltip writes them as plain text."""
    titles = {column.key: column.title for column in DRAWN} | {"step": "Step from here up"}
    told = [alt.Tooltip(f"{key}_tip:N", title=titles[key]) for key in keys]
    return [alt.Tooltip("head:N", title="Block"), *told]


def _time_chart(data: ChartData, theme: Theme) -> alt.LayerChart:
    """Forward at the bottom and paler, backward on it."""
    base = _bars(data, theme).encode(tooltip=_tip("forward_seconds", "backward_seconds"))
    colour = theme.series[0] if len(data.stacks) == 1 else theme.muted
    where = "top" if len(data.stacks) == 1 else "bottom"
    legend = alt.Legend(symbolFillColor=colour, orient=where)
    scale = alt.Scale(domain=["forward", "backward"], range=[0.45, 0.9])
    ends = {
        "forward": (alt.Y2Datum(0), "time_forward"),
        "backward": ("time_forward:Q", "time_both"),
    }
    layers = [
        base.transform_calculate(part=f"'{part}'").encode(
            y=_bar_y(top),
            y2=bottom,
            opacity=alt.Opacity("part:O", scale=scale, legend=legend),
        )
        for part, (bottom, top) in ends.items()
    ]
    return _titled(layers, "Time per batch (ms)", data, height=150)


def _memory_chart(data: ChartData, theme: Theme) -> alt.LayerChart:
    key = "activation_bytes"
    bars = _bars(data, theme).encode(
        y=_bar_y(key),
        y2=alt.Y2Datum(0),
        opacity=alt.value(0.9),
        tooltip=_tip(key),
    )
    return _titled([bars], data.title(column_named(key)), data, height=150)


def _bars(data: ChartData, theme: Theme) -> alt.Chart:
    return (
        alt.Chart()
        .mark_rect()
        .encode(x=block_axis("start", data.places), x2="end:Q", color=_colour(data, theme))
    )


def _bar_y(key: str) -> alt.Y:
    return alt.Y(f"{key}:Q", axis=plain_axis(), title=None)


def _cost_gain_chart(data: ChartData, theme: Theme, placement: Placement | None) -> alt.LayerChart:
    """Each block's own gain against the price of reaching down to it."""
    title = "Training step with adapters from the block up, relative to all blocks"
    axis = alt.Axis(title=title, format=".0%", grid=False, tickCount=8, labelOverlap="greedy")
    base = alt.Chart().encode(
        x=alt.X("step:Q", scale=alt.Scale(zero=False, nice=False, padding=14), axis=axis),
        y=alt.Y("gain:Q", **_value_axis(data, "gain")),
        color=_colour(data, theme),
    )
    numbers = base.encode(text="label:N")
    halo = {"stroke": theme.paper, "strokeWidth": 4, "strokeJoin": "round"}
    layers = [
        *_placement_rule(theme, placement),
        _dots(data, theme, base, "gain", "step"),
        *(numbers.mark_text(dy=-11, fontSize=10, **how) for how in (halo, {})),
    ]
    gain = data.title(column_named("gain"), against="cost")
    return _titled(layers, gain, data, height=220)


def _placement_rule(theme: Theme, placement: Placement | None) -> list[alt.LayerChart]:
    """A dashed line at what a step with the placement costs."""
    if placement is None or placement.cost is None:
        return []
    spot = {"step": placement.cost.step_ratio, "text": "this placement"}
    base = alt.Chart(alt.InlineData(values=[spot])).encode(x="step:Q")
    rule = base.mark_rule(strokeDash=[4, 3], opacity=0.7)
    text = base.mark_text(align="left", baseline="top", dx=5, color=theme.muted)
    return [alt.layer(rule, text.encode(y=alt.value(0), text="text:N"))]


def _titled(
    layers: Sequence[alt.Chart | alt.LayerChart], title: str, data: ChartData, *, height: int
) -> alt.LayerChart:
    about = counted(len(data.rows), "block")
    return titled(layers, title, about=about, height=height)


def _value_axis(data: ChartData, key: str) -> Spec:
    """Scale and axis of a column: logarithmic where positive numbers span it."""
    log = data.log_axis(key)
    if log:
        domain, ticks = log
        scale = alt.Scale(type="log", domain=domain, nice=False)
        return {"scale": scale, "axis": plain_axis(values=ticks, format=",~r"), "title": None}
    whole = {"domain": [0, 1]} if key == "coherence" else {"zero": False, "nice": True}
    return {"scale": alt.Scale(**whole), "axis": plain_axis(), "title": None}


def _colour(data: ChartData, theme: Theme) -> alt.Color:
    return alt.Color("stack:N", scale=_stack_scale(data, theme), legend=_stack_legend(data))


def _stack_legend(data: ChartData) -> alt.Legend | None:
    return alt.Legend(symbolType="circle", symbolOpacity=1) if len(data.stacks) > 1 else None


def _stack_scale(data: ChartData, theme: Theme) -> alt.Scale:
    colours = [theme.series[n % len(theme.series)] for n in range(len(data.stacks))]
    return alt.Scale(domain=list(data.stacks), range=colours)
