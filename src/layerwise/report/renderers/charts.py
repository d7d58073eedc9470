"""Charts as Vega-Lite: one function a kind, one theme, drawn on a page or as PNG and SVG.

Text from outside (model and stack names) enters a specification only as data values; field names,
expressions and marks are ours alone, so that no name can become a field path, an expression, a
signal or an address.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from layerwise.registry import Registry
from layerwise.report.blocks import Axis, Chart, Document, Row, Rows
from layerwise.report.numbers import number_style, rounded
from layerwise.report.renderers.theme import LIGHT, Spec, Theme, chart_config
from layerwise.report.words import visible

__all__ = ["KINDS", "Layers", "exported", "heading", "specification"]

Layers = list[alt.Chart | alt.LayerChart]

#: How each kind of chart is drawn: the layers of its rows, which are the data set ``rows``.
KINDS = Registry[Callable[[Chart, Theme], Layers]]("chart kind")

_TICKS = 12
_LOG_ABOVE = 20.0
_MANY = 48
_LINE = 20
_SHORT_LABEL = 4
_IN_STACK = "isValid(datum.index)"


def exported(document: Document) -> dict[str, bytes]:
    """Return ``chart-<name>.png`` and ``chart-<name>.svg`` of each chart, drawn without network."""
    files: dict[str, bytes] = {}
    for name, chart in document.charts().items():
        config = {"config": chart_config(LIGHT), "background": LIGHT.paper, "title": heading(chart)}
        drawn = specification(chart, LIGHT) | config | {"width": 640}
        svg = vl_convert.vegalite_to_svg(drawn, allowed_base_urls=[])
        png = vl_convert.vegalite_to_png(drawn, scale=2, allowed_base_urls=[])
        files |= {f"chart-{name}.svg": svg.encode(), f"chart-{name}.png": png}
    return files


def heading(chart: Chart) -> str:
    """Return a chart's title with unit, power of ten, and a word where the scale is not linear."""
    value = _value_axis(chart)
    scale = _scale(value, _values(chart, value))
    unit = " ".join(filter(None, (scale.suffix, value.unit)))
    return (
        visible(chart.title) + (f" ({unit})" if unit else "") + (", log scale" if scale.log else "")
    )


def specification(chart: Chart, theme: Theme) -> Spec:
    """Return `chart` as a Vega-Lite specification with its data under ``datasets``."""
    layers = KINDS[chart.kind](chart, theme)
    height = (
        max(_LINE * len(_lines(chart)), 60) if chart.kind in {"intervals", "heat"} else chart.height
    )
    drawn = alt.layer(*layers, data=alt.NamedData(name="rows"))
    drawn = drawn.properties(height=height, width=460, description=visible(chart.title))
    if chart.top:
        drawn = drawn.resolve_axis(x="independent")
    spec: Spec = drawn.to_dict()
    named = {"rows": chart.rows, "faint": chart.faint, "lines": chart.lines}
    data = {name: [_clean(row, chart) for row in rows] for name, rows in named.items() if rows}
    return spec | {"datasets": {**spec.get("datasets", {}), **data}}


def _clean(row: Row, chart: Chart) -> dict[str, Any]:
    """Return what is drawn of a row, with short numbers and text that a screen can draw."""
    own = (chart.x.field, chart.y.field, chart.series, chart.filled, chart.low, chart.high)
    more = (chart.label, chart.other, chart.join, *chart.tips, "head", "index", "low", "high")
    kept = ((key, row[key]) for key in dict.fromkeys((*own, *more)) if key in row)
    return {key: visible(v) if isinstance(v, str) else rounded(v) for key, v in kept}


# --- Scales and axes --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scale:
    """How the numbers of an axis are set out; `log` holds the ticks of a logarithmic one."""

    suffix: str
    divisor: float
    log: tuple[float, ...]
    domain: tuple[float, float] | None


def _value_axis(chart: Chart) -> Axis:
    """Return the axis of numbers that the chart is about."""
    return chart.x if chart.kind == "intervals" else chart.y


def _values(chart: Chart, axis: Axis) -> list[float]:
    """Return all numbers that stand on `axis`."""
    mine = axis is _value_axis(chart)
    fields = {axis.field, *((chart.low, chart.high, chart.other) if mine else ())}
    rows = (*chart.rows, *chart.faint, *(chart.lines if not chart.top else ()))
    found = [row[key] for row in rows for key in fields if key and row.get(key) is not None]
    ruled = [rule.at for rule in chart.rules if (rule.of == "x") == (axis is chart.x)]
    return [value for value in (*found, *ruled) if isinstance(value, int | float)]


def _scale(axis: Axis, values: Sequence[float]) -> _Scale:
    """Return how `values` are set out: positive ones that span decades on a logarithmic axis."""
    if axis.form == "percent" or not values:
        return _Scale("", 1.0, (), None)
    style = number_style(values)
    suffix, divisor = style.suffix, 10.0**style.exponent
    if axis.scale != "log" or min(values) <= 0 or max(values) <= _LOG_ABOVE * min(values):
        return _Scale(suffix, divisor, (), None)
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = [float(f"{m}e{e}") for e in range(first, last + 1) for m in (1, 2, 5)]
    domain = max(s for s in steps if s <= min(values)), min(s for s in steps if s >= max(values))
    powers = [float(f"1e{e}") for e in range(first, last + 1, 1 + (last - first) // 6)]
    ticks = steps if last - first <= 2 else powers
    inside = tuple(tick for tick in ticks if domain[0] <= tick <= domain[1])
    return _Scale(suffix, divisor, inside, domain)


def _numbers(chart: Chart, axis: Axis) -> Spec:
    """Return scale, axis and title of numbers, for a channel of Altair."""
    found = _scale(axis, _values(chart, axis))
    looks: Spec = {"tickCount": 5, "domain": False, "ticks": False, "labelFlush": False}
    # Vega's ~r counts a digit too few where steps are uneven in binary: 0.001, 0.001 for 0.0012.
    text = ",~r" if found.log else ",~f"
    looks |= {"labelExpr": f"format(datum.value / {found.divisor!r}, '{text}')"}
    if axis.form == "percent":
        looks |= {"labelExpr": "format(datum.value, '~%')"}
    scale: Spec = {"zero": axis.scale == "zero", "nice": axis.scale != "share"}
    if axis.scale == "share":
        scale |= {"domain": [0, 1]}
    if axis.most or (axis.scale == "zero" and not any(_values(chart, axis))):
        scale |= {"domain": [0, axis.most or 0.1]}
    if found.domain is not None:
        scale = {"type": "log", "domain": list(found.domain), "nice": False}
        looks |= {"values": list(found.log), "tickCount": len(found.log)}
    if chart.kind == "scatter" and axis is chart.x:
        looks |= {"grid": False, "tickCount": 8, "labelOverlap": "greedy"}
        scale |= {"padding": 14}
    return {
        "scale": alt.Scale(**scale),
        "axis": alt.Axis(**looks),
        "title": visible(axis.title) or None,
    }


@dataclass(frozen=True)
class _Places:
    """Where blocks stand on a shared axis, on which a gap parts the stacks."""

    blocks: tuple[tuple[int, int], ...]
    rest: int | None

    @property
    def scale(self) -> alt.Scale:
        """The axis from before its first place to after its last."""
        last = max((x for x, _ in self.blocks), default=0)
        return alt.Scale(domain=[-0.6, max(last, self.rest or 0) + 0.6], nice=False, zero=False)

    def axis(self, field: str) -> alt.X:
        """Block numbers under the axis, counted from 0 in each stack."""
        count = len(self.blocks)
        step = next(s for s in (1, 2, 4, 5, 10, 20, 50, 10_000) if count / s <= _TICKS)
        values = [x for x, index in self.blocks if index % step == 0]
        values += [] if self.rest is None else [self.rest]
        axis = alt.Axis(values=values, labelExpr=self._labels(), grid=False, labelOverlap="greedy")
        return alt.X(f"{field}:Q", scale=self.scale, axis=axis, title=None)

    def _labels(self) -> str:
        """Return an expression from a place to the block's index; of our own numbers alone."""
        starts = [x for x, index in self.blocks if index == 0]
        expression = "datum.value"
        for start in starts[1:]:  # The last, outermost test is for the last stack.
            expression = f"datum.value >= {start} ? datum.value - {start} : ({expression})"
        told = f"format({expression}, 'd')"
        return told if self.rest is None else f"datum.value == {self.rest} ? 'rest' : {told}"

    def named(self, labels: Mapping[int, str]) -> alt.X:
        """The same places with `labels` of our own above, a faint line down from each."""
        told = (f"datum.value == {x} ? {json.dumps(label)}" for x, label in labels.items())
        axis = alt.Axis(
            orient="top",
            values=list(labels),
            labelExpr=" : ".join([*told, "''"]),
            labelOverlap="greedy",
            domain=False,
            ticks=False,
        )
        return alt.X("x:Q", scale=self.scale, axis=axis, title=None)


def _places(rows: Rows) -> _Places:
    spots = dict.fromkeys((row["x"], row["index"]) for row in rows)
    rest = next((x for x, index in spots if index is None), None)
    return _Places(tuple(sorted((x, i) for x, i in spots if i is not None)), rest)


def _bare(x: alt.X) -> alt.X:
    """Return the same axis without its labels, for layers beside the one that has them."""
    bare: alt.X = x.axis(None)
    return bare


def _lines(chart: Chart) -> list[str]:
    """Return the names of the lines of a chart that has some, in their order."""
    return list(dict.fromkeys(row[chart.y.field] for row in chart.rows))


def _line_axis(chart: Chart) -> alt.Y:
    """Return lines named at their left, in the order of the data."""
    axis = alt.Axis(domain=False, ticks=False, labelPadding=8, labelLimit=230)
    order = [visible(name) for name in _lines(chart)]
    return alt.Y(f"{chart.y.field}:N", sort=order, title=None, axis=axis)


# --- Colours, points, tooltips ----------------------------------------------------------------


def _colours(chart: Chart, theme: Theme) -> alt.Scale:
    names = [visible(name) for name in chart.names]
    return alt.Scale(domain=names, range=[theme.series[n % 6] for n in range(len(names))])


def _colour(chart: Chart, theme: Theme) -> Any:
    """Return the colour of a series; the first one where there are none."""
    if not chart.series:
        return alt.value(theme.series[0])
    return alt.Color(f"{chart.series}:N", scale=_colours(chart, theme), legend=_legend(chart))


def _legend(chart: Chart) -> alt.Legend | None:
    return alt.Legend() if len(chart.names) > 1 else None


def _points(base: alt.Chart, chart: Chart, theme: Theme, *, many: bool = False) -> alt.Chart:
    """Return points filled with their colour where the rows say so, hollow elsewhere."""
    fill: Any = alt.value(theme.series[0])
    if chart.series:
        fill = alt.Fill(f"{chart.series}:N", scale=_colours(chart, theme), legend=_legend(chart))
    if chart.filled:
        fill = alt.condition(f"datum.{chart.filled}", fill, alt.value(theme.paper))
    told = base.encode(fill=fill, tooltip=_tip(chart))
    return told.mark_point(size=24 if many else 50, opacity=1, strokeWidth=1.3)


def _tip(chart: Chart) -> list[alt.Tooltip]:
    """Return what a row is, and its numbers; the page's own tooltip writes them as plain text."""
    told = [alt.Tooltip(f"{key}:N", title=visible(title)) for key, title in chart.tips.items()]
    return [alt.Tooltip("head:N", title="Block"), *told]


def _rules(chart: Chart, theme: Theme, axes: Mapping[str, Any]) -> Layers:
    """Return dashed lines across, with their names, and bands from 0."""
    made: Layers = []
    for rule in chart.rules:
        base = alt.Chart(
            alt.InlineData(values=[{"at": rounded(rule.at), "text": visible(rule.text)}])
        )
        channel = {"x": alt.X, "y": alt.Y}[rule.of]
        base = base.encode(**{rule.of: channel("at:Q", **axes[rule.of])})
        if rule.band:
            made.append(base.encode(y2=alt.Y2Datum(0)).mark_rect(color=theme.muted, opacity=0.18))
            continue
        made.append(base.mark_rule(strokeDash=[4, 3], opacity=0.75))
        if rule.text and rule.of == "x":
            text = base.encode(y=alt.value("height"), text="text:N")
            made.append(text.mark_text(align="left", baseline="bottom", dx=5, color=theme.muted))
        elif rule.text:
            text = base.encode(x=alt.value("width"), text="text:N")
            made.append(text.mark_text(align="right", dy=-7, color=theme.muted))
    return made


# --- Kinds ------------------------------------------------------------------------------------


def _blocks(chart: Chart, theme: Theme) -> Layers:
    """Draw points over depth on their line, with bands, fans and fainter lines behind."""
    places, y = _places(chart.rows), _numbers(chart, chart.y)
    x = places.axis("x")
    inner = _bare(x) if chart.top else x
    colour = _colour(chart, theme)
    base = alt.Chart().encode(x=inner, color=colour)
    values = base.encode(y=alt.Y(f"{chart.y.field}:Q", **y))
    layers: Layers = []
    if chart.top:
        named = alt.Chart().encode(x=places.named(chart.top), y=alt.Y(f"{chart.y.field}:Q", **y))
        layers.append(named.mark_point(opacity=0, size=0))
    layers += _rules(chart, theme, {"y": y})
    if chart.faint:
        pale = alt.Chart(alt.NamedData(name="faint")).encode(
            x=inner,
            y=alt.Y(f"{chart.y.field}:Q", **y),
            color=colour,
            detail=f"{chart.join or chart.series}:N",
        )
        layers.append(pale.mark_line(strokeWidth=1, opacity=0.3))
    layers += _fitted(chart, theme, x, y)
    if chart.low:
        # A pale band for the eye, and whiskers that also show a block without neighbours.
        ends = base.encode(y=alt.Y(f"{chart.low}:Q", **y), y2=f"{chart.high}:Q")
        band = ends.transform_filter(_IN_STACK).mark_area(opacity=0.13)
        layers += [band, ends.mark_rule(opacity=0.6, strokeWidth=1.2)]
    line = values.transform_filter(_IN_STACK)
    line = line.encode(detail=f"{chart.join}:N") if chart.join and not chart.faint else line
    many = len(chart.rows) > _MANY
    points = _points(values, chart, theme, many=many)
    return [*layers, line.mark_line(strokeWidth=1.5, opacity=0.55), points]


def _fitted(chart: Chart, theme: Theme, x: alt.X, y: Spec) -> Layers:
    """Return dashed lines on the fans of their intervals."""
    if not chart.lines:
        return []
    colour = _colour(chart, theme) if chart.series else alt.value(theme.series[1])
    base = alt.Chart(alt.NamedData(name="lines")).encode(x=x, color=colour)
    line = base.encode(y=alt.Y(f"{chart.y.field}:Q", **y))
    dashed = line.mark_line(strokeDash=[6, 4], strokeWidth=1.5, clip=True)
    if "low" not in chart.lines[0]:
        return [dashed]
    fan = base.encode(x=_bare(x), y=alt.Y("low:Q", **y), y2="high:Q")
    return [fan.mark_area(opacity=0.16, clip=True), dashed]


def _bars(chart: Chart, theme: Theme) -> Layers:
    """Draw a bar a block, or one a name; parts of a bar on each other."""
    y = _numbers(chart, chart.y)
    low: Any = f"{chart.low}:Q" if chart.low else alt.Y2Datum(0)
    base = alt.Chart().encode(
        y=alt.Y(f"{chart.y.field}:Q", **y), color=_colour(chart, theme), tooltip=_tip(chart)
    )
    if "index" not in chart.rows[0]:
        names = alt.Axis(labelAngle=0, grid=False, title=visible(chart.x.title) or None)
        x = alt.X(f"{chart.x.field}:N", sort=None, axis=names)
        return [base.encode(x=x).mark_bar(opacity=0.9), *_rules(chart, theme, {"y": y})]
    places = _places(chart.rows)
    spread = base.transform_calculate(start="datum.x - 0.38", end="datum.x + 0.38")
    bars = spread.encode(x=places.axis("start"), x2="end:Q", y2=low)
    return [bars.mark_rect(opacity=0.9), *_rules(chart, theme, {"y": y})]


def _intervals(chart: Chart, theme: Theme) -> Layers:
    """Draw a line a name: its interval and value, single ones as ticks, a second value hollow."""
    x, y, colour = _numbers(chart, chart.x), _line_axis(chart), _colour(chart, theme)
    base = alt.Chart().encode(y=y, color=colour, tooltip=_tip(chart))
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).encode(x=alt.X("zero:Q", **x))
    layers: Layers = [*_tints(chart, theme, y), zero.mark_rule(opacity=0.8)]
    if chart.faint:
        single = alt.Chart(alt.NamedData(name="faint")).encode(
            y=y, x=alt.X(f"{chart.x.field}:Q", **x), color=colour, tooltip=_tip(chart)
        )
        layers.append(single.mark_tick(opacity=0.5, thickness=1.5, size=9))
    if chart.low:
        ends = base.transform_filter(f"isValid(datum.{chart.low})")
        ends = ends.encode(x=alt.X(f"{chart.low}:Q", **x), x2=f"{chart.high}:Q")
        layers.append(
            ends.mark_rule(strokeWidth=5 if chart.other else 2, opacity=0.35 if chart.other else 1)
        )
    if chart.other:
        there = base.transform_filter(f"isValid(datum.{chart.other})")
        there = there.encode(x=alt.X(f"{chart.other}:Q", **x))
        hollow = there.encode(fill=alt.value(theme.paper))
        layers += [
            there.encode(x2=f"{chart.x.field}:Q").mark_rule(strokeWidth=1.5, opacity=0.55),
            hollow.mark_point(size=50, opacity=1, strokeWidth=1.5),
        ]
    return [*layers, _points(base.encode(x=alt.X(f"{chart.x.field}:Q", **x)), chart, theme)]


def _tints(chart: Chart, theme: Theme, y: alt.Y) -> Layers:
    """Return a tint behind the lines of every other group; one layer has every line in order."""
    groups = dict.fromkeys(row[chart.join] for row in chart.rows) if chart.join else {}
    tinted = set(list(groups)[1::2])
    rows = {
        row[chart.y.field]: chart.join != "" and row[chart.join] in tinted for row in chart.rows
    }
    values = [{chart.y.field: visible(name), "tint": tint} for name, tint in rows.items()]
    opacity = alt.condition("datum.tint", alt.value(0.07), alt.value(0))
    base = alt.Chart(alt.InlineData(values=values)).encode(y=y, opacity=opacity)
    return [base.mark_rect(color=theme.muted, tooltip=None)]


def _scatter(chart: Chart, theme: Theme) -> Layers:
    """Draw points, those of a group on a faint line, some with their names."""
    x, y = _numbers(chart, chart.x), _numbers(chart, chart.y)
    base = alt.Chart().encode(
        x=alt.X(f"{chart.x.field}:Q", **x),
        y=alt.Y(f"{chart.y.field}:Q", **y),
        color=_colour(chart, theme),
    )
    layers: Layers = []
    if chart.join:
        layers.append(base.encode(detail=f"{chart.join}:N").mark_line(strokeWidth=1, opacity=0.3))
    if chart.lines:
        line = alt.Chart(alt.NamedData(name="lines")).encode(
            x=alt.X(f"{chart.x.field}:Q", **x), y=alt.Y(f"{chart.y.field}:Q", **y)
        )
        dashed = line.mark_line(color=theme.muted, strokeDash=[6, 4], strokeWidth=1.5, opacity=0.8)
        layers.append(dashed)
    layers += [*_rules(chart, theme, {"x": x, "y": y}), _points(base, chart, theme)]
    return [*layers, *(_labels(chart, theme, x, y) if chart.label else [])]


def _labels(chart: Chart, theme: Theme, x: Spec, y: Spec) -> Layers:
    """Return short names above their points; longer ones at the side that has room, apart."""
    named = [row for row in chart.rows if row[chart.label]]
    if not named:
        return []
    short = max(len(row[chart.label]) for row in named) <= _SHORT_LABEL
    middle = sum(_ends(row[chart.x.field] for row in chart.rows)) / 2
    heights = [row[chart.y.field] for row in chart.rows]
    gap = 0.0 if short else 0.05 * (max(*heights, 0.0) - min(*heights, 0.0))
    last, rows = math.inf, []
    for row in sorted(named, key=lambda row: -row[chart.y.field]):
        last = min(row[chart.y.field], last - gap)
        side = "above" if short else "left" if row[chart.x.field] > middle else "right"
        spot = {"x": row[chart.x.field], "y": row[chart.y.field] if short else rounded(last)}
        rows.append({**spot, "text": visible(row[chart.label]), "side": side})
    looks: Mapping[str, Spec] = {
        "above": {"dy": -11, "fontSize": 10},
        "left": {"align": "right", "dx": -9, "limit": 240},
        "right": {"align": "left", "dx": 9, "limit": 240},
    }
    halo = {"stroke": theme.paper, "strokeWidth": 4, "strokeJoin": "round"}
    made: Layers = []
    for side, look in looks.items():
        values = [row for row in rows if row["side"] == side]
        base = alt.Chart(alt.InlineData(values=values)).encode(
            x=alt.X("x:Q", **x), y=alt.Y("y:Q", **y), text="text:N"
        )
        made += [base.mark_text(**look, **how) for how in (halo, {}) if values]
    return made


def _ends(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return min(found), max(found)


def _heat(chart: Chart, theme: Theme) -> Layers:
    """Draw shares as shades, with their text."""
    axis = alt.Axis(
        labelAngle=0, domain=False, ticks=False, title=visible(chart.x.title), orient="top"
    )
    base = alt.Chart().encode(
        x=alt.X(f"{chart.x.field}:N", sort=None, axis=axis),
        y=_line_axis(chart),
        tooltip=_tip(chart),
    )
    scale = alt.Scale(domain=[0, 1], range=[0.02, 0.6])
    opacity = alt.Opacity(f"{chart.series}:Q", scale=scale, legend=None)
    return [
        base.encode(opacity=opacity).mark_rect(color=theme.series[0], cornerRadius=3),
        base.encode(text=f"{chart.label}:N").mark_text(color=theme.ink),
    ]


for _name, _draw in (
    ("blocks", _blocks),
    ("bars", _bars),
    ("intervals", _intervals),
    ("scatter", _scatter),
    ("heat", _heat),
):
    KINDS.add(_draw, name=_name)
