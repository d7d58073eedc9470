"""Charts as Vega-Lite: one function a kind, one theme, drawn on a page or as PNG and SVG.

Text from outside (model and stack names) enters a specification only as data values; field names,
expressions and marks are ours alone, so that no name can become a field path, an expression, a
signal or an address.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from layerwise.registry import Registry
from layerwise.report.blocks import Axis, Chart, Document, Row, Rows
from layerwise.report.numbers import number_style, rounded, told
from layerwise.report.renderers.theme import LIGHT, Spec, Theme, chart_config
from layerwise.report.words import visible

Layers = list[alt.Chart | alt.LayerChart]

#: How each kind of chart is drawn: the layers of its rows, which are the data set ``rows``.
KINDS = Registry[Callable[[Chart, Theme], Layers]]("chart kind")

_TICKS = 12
_LOG_ABOVE = 20.0
#: Below it a number on a logarithmic axis is written as a power: 1e-5.
_SMALL = 1e-4
#: An axis near the data spans at least this share of them, so that what is alike looks alike.
_LEAST_SPAN = 0.02
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
    axis = _value_axis(chart)
    scale = _scale(axis, _values(chart, axis))
    unit = " ".join(filter(None, (scale.suffix, axis.unit)))
    title = visible(chart.title) + (f" ({unit})" if unit else "")
    return title + (", log scale" if scale.log else "")


def specification(chart: Chart, theme: Theme) -> Spec:
    """Return `chart` as a Vega-Lite specification with its data under ``datasets``."""
    lines = chart.kind in {"intervals", "heat"}
    height = max(_LINE * len(_lines(chart)), 60) if lines else chart.height
    drawn = alt.layer(*KINDS[chart.kind](chart, theme), data=alt.NamedData(name="rows"))
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
    more = (chart.label, chart.other, chart.join, "head", "index", "low", "high")
    kept = {key: row[key] for key in dict.fromkeys((*own, *more)) if key in row}
    for tip in chart.tips:
        kept[f"{tip.key}_tip"] = "" if row.get(tip.key) is None else told(tip, row)
    return {key: visible(v) if isinstance(v, str) else rounded(v) for key, v in kept.items()}


# --- Scales and axes --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scale:
    """How the numbers of an axis are set out; `log` holds the ticks of a logarithmic one."""

    suffix: str = ""
    divisor: float = 1.0
    log: tuple[float, ...] = ()
    domain: tuple[float, float] | None = None


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
    numbers = (value for value in (*found, *ruled) if isinstance(value, int | float))
    return [value for value in numbers if math.isfinite(value)]


def _scale(axis: Axis, values: Sequence[float]) -> _Scale:
    """Return how `values` are set out: positive ones that span decades on a logarithmic axis."""
    if axis.form == "percent" or not values:
        return _Scale()
    style = number_style(values)
    suffix, divisor = style.suffix, 10.0**style.exponent
    if axis.scale != "log" or min(values) <= 0 or max(values) <= _LOG_ABOVE * min(values):
        return _Scale(suffix, divisor)
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = [float(f"{m}e{e}") for e in range(first, last + 1) for m in (1, 2, 5)]
    domain = max(s for s in steps if s <= min(values)), min(s for s in steps if s >= max(values))
    powers = [float(f"1e{e}") for e in range(first, last + 1, 1 + (last - first) // 6)]
    ticks = steps if last - first <= 2 else powers
    inside = tuple(tick for tick in ticks if domain[0] <= tick <= domain[1])
    return _Scale(suffix, divisor, inside, domain)


def _numbers(chart: Chart, axis: Axis) -> Spec:
    """Return scale, axis and title of numbers, for a channel of Altair."""
    values = _values(chart, axis)
    found = _scale(axis, values)
    looks: Spec = {"tickCount": 5, "domain": False, "ticks": False, "labelFlush": False}
    # Vega's ~r counts a digit too few where steps are uneven in binary: 0.001, 0.001 for 0.0012.
    text = ("~e" if found.log[0] < _SMALL else ",~r") if found.log else ",~f"
    looks |= {"labelExpr": f"format(datum.value / {found.divisor!r}, '{text}')"}
    if axis.form == "percent":
        looks |= {"labelExpr": "format(datum.value, '~%')"}
    scale: Spec = {"zero": axis.scale == "zero", "nice": axis.scale != "share"}
    if axis.scale == "share":
        scale |= {"domain": [0, 1]}
    least = _LEAST_SPAN * max(map(abs, values), default=0.0)
    if (
        axis.scale in {"near", "log"}
        and values
        and (room := least - (max(values) - min(values))) > 0
    ):
        scale |= {"domain": [min(values) - room / 2, max(values) + room / 2]}
    if axis.most or (axis.scale == "zero" and not any(values)):
        scale |= {"domain": [0, axis.most or 0.1]}
    if found.domain is not None:
        scale = {"type": "log", "domain": list(found.domain), "nice": False}
        looks |= {"values": list(found.log), "tickCount": len(found.log)}
    if chart.kind == "scatter" and axis is chart.x:
        looks |= {"grid": False, "tickCount": 8, "labelOverlap": "greedy"}
        scale |= {} if axis.scale == "zero" else {"padding": 14}  # Which goes below 0, else.
    title = visible(axis.title) or None
    return {"scale": alt.Scale(**scale), "axis": alt.Axis(**looks), "title": title}


def _x(chart: Chart, field: str = "") -> alt.X:
    """Return the place of the numbers of `field` (default: the axis's own) along the bottom."""
    return alt.X(f"{field or chart.x.field}:Q", **_numbers(chart, chart.x))


def _y(chart: Chart, field: str = "") -> alt.Y:
    """Return the same up the side."""
    return alt.Y(f"{field or chart.y.field}:Q", **_numbers(chart, chart.y))


def _places(chart: Chart, field: str = "x") -> alt.X:
    """Return the axis of blocks, counted from 0 in each stack, on which a gap parts the stacks."""
    spots = dict.fromkeys((row["x"], row["index"]) for row in chart.rows)
    blocks = sorted((x, index) for x, index in spots if index is not None)
    rest = [x for x, index in spots if index is None][:1]
    step = next(s for s in (1, 2, 4, 5, 10, 20, 50, 10_000) if len(blocks) / s <= _TICKS)
    label = "datum.value"
    for start in [x for x, index in blocks if index == 0][1:]:  # The outermost is the last stack's.
        label = f"datum.value >= {start} ? datum.value - {start} : ({label})"
    label = f"format({label}, 'd')"
    label = f"datum.value == {rest[0]} ? 'rest' : {label}" if rest else label
    axis = alt.Axis(
        values=[*(x for x, index in blocks if index % step == 0), *rest],
        labelExpr=label,
        grid=False,
        labelOverlap="greedy",
    )
    last = max((x for x, _ in (*blocks, *((x, 0) for x in rest))), default=0)
    scale = alt.Scale(domain=[-0.6, last + 0.6], nice=False, zero=False)
    return alt.X(f"{field}:Q", scale=scale, axis=axis, title=None)


def _named(places: alt.X, labels: Mapping[int, str]) -> alt.X:
    """Return the same axis with `labels` of our own above, a faint line down from each."""
    cases = (f"datum.value == {x} ? {json.dumps(label)}" for x, label in labels.items())
    label = " : ".join([*cases, "''"])
    looks = {"orient": "top", "labelOverlap": "greedy", "domain": False, "ticks": False}
    named: alt.X = places.axis(values=list(labels), labelExpr=label, **looks)
    return named


def _lines(chart: Chart) -> list[str]:
    """Return the names of the lines of a chart that has some, in their order."""
    return list(dict.fromkeys(row[chart.y.field] for row in chart.rows))


def _line_axis(chart: Chart) -> alt.Y:
    """Return lines named at their left, in the order of the data."""
    axis = alt.Axis(domain=False, ticks=False, labelPadding=8, labelLimit=230)
    order = [visible(name) for name in _lines(chart)]
    return alt.Y(f"{chart.y.field}:N", sort=order, title=None, axis=axis)


# --- Colours, points, tooltips ----------------------------------------------------------------


def _colour(chart: Chart, theme: Theme, channel: Any = alt.Color) -> Any:
    """Return the colour of a series; the first one where there are none."""
    if not chart.series:
        return alt.value(theme.series[0])
    names = [visible(name) for name in chart.names]
    scale = alt.Scale(domain=names, range=[theme.series[n % 6] for n in range(len(names))])
    legend = alt.Legend() if len(names) > 1 else None
    return channel(f"{chart.series}:N", scale=scale, legend=legend)


def _points(base: alt.Chart, chart: Chart, theme: Theme, *, many: bool = False) -> alt.Chart:
    """Return points filled with their colour where the rows say so, hollow elsewhere."""
    fill = _colour(chart, theme, alt.Fill)
    if chart.filled:
        fill = alt.condition(f"datum.{chart.filled}", fill, alt.value(theme.paper))
    drawn = base.encode(fill=fill, tooltip=_tip(chart))
    return drawn.mark_point(size=24 if many else 50, opacity=1, strokeWidth=1.3)


def _tip(chart: Chart) -> list[alt.Tooltip]:
    """Return what a row is, and its numbers; the page's own tooltip writes them as plain text."""
    tips = [alt.Tooltip(f"{c.key}_tip:N", title=visible(c.title)) for c in chart.tips]
    return [alt.Tooltip("head:N", title="Block"), *tips]


def _inline(rows: Rows) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=list(rows)))


def _rules(chart: Chart, theme: Theme) -> Layers:
    """Return dashed lines across, with their names, and bands from 0."""
    made: Layers = []
    for rule in chart.rules:
        place = {"x": _x, "y": _y}[rule.of](chart, "at")
        base = _inline([{"at": rounded(rule.at), "text": visible(rule.text)}])
        base = base.encode(**{rule.of: place})
        if rule.band:
            made.append(
                base.encode(y2=alt.Y2Datum(0)).mark_rect(color=theme.muted, opacity=0.18, clip=True)
            )
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


@KINDS.register("blocks")
def _blocks(chart: Chart, theme: Theme) -> Layers:
    """Draw points over depth on their line, with bands, fans and fainter lines behind."""
    x, y, colour = _places(chart), _y(chart), _colour(chart, theme)
    inner = x.axis(None) if chart.top else x
    base = alt.Chart().encode(x=inner, color=colour)
    layers: Layers = []
    if chart.top:
        named = alt.Chart().encode(x=_named(x, chart.top), y=y)
        layers.append(named.mark_point(opacity=0, size=0))
    layers += _rules(chart, theme)
    if chart.faint:
        pale = alt.Chart(alt.NamedData(name="faint"))
        pale = pale.encode(x=inner, y=y, color=colour, detail=f"{chart.join or chart.series}:N")
        layers.append(pale.mark_line(strokeWidth=1, opacity=0.3))
    layers += _fitted(chart, theme, x)
    if chart.low:
        # A pale band for the eye, and whiskers that also show a block without neighbours.
        ends = base.encode(y=_y(chart, chart.low), y2=f"{chart.high}:Q")
        band = ends.transform_filter(_IN_STACK).mark_area(opacity=0.13)
        layers += [band, ends.mark_rule(opacity=0.6, strokeWidth=1.2)]
    values = base.encode(y=y)
    line = values.transform_filter(_IN_STACK)
    line = line.encode(detail=f"{chart.join}:N") if chart.join and not chart.faint else line
    points = _points(values, chart, theme, many=len(chart.rows) > _MANY)
    return [*layers, line.mark_line(strokeWidth=1.5, opacity=0.55), points]


def _fitted(chart: Chart, theme: Theme, x: alt.X) -> Layers:
    """Return dashed lines on the fans of their intervals."""
    if not chart.lines:
        return []
    colour = _colour(chart, theme) if chart.series else alt.value(theme.series[1])
    base = alt.Chart(alt.NamedData(name="lines")).encode(color=colour)
    line = base.encode(x=x, y=_y(chart))
    dashed = line.mark_line(strokeDash=[6, 4], strokeWidth=1.5, clip=True)
    if "low" not in chart.lines[0]:
        return [dashed]
    fan = base.encode(x=x.axis(None), y=_y(chart, "low"), y2="high:Q")
    return [fan.mark_area(opacity=0.16, clip=True), dashed]


@KINDS.register("bars")
def _bars(chart: Chart, theme: Theme) -> Layers:
    """Draw a bar a block, or one a name; parts of a bar on each other."""
    low: Any = f"{chart.low}:Q" if chart.low else alt.Y2Datum(0)
    base = alt.Chart().encode(y=_y(chart), color=_colour(chart, theme), tooltip=_tip(chart))
    if "index" not in chart.rows[0]:
        names = alt.Axis(labelAngle=0, grid=False, title=visible(chart.x.title) or None)
        x = alt.X(f"{chart.x.field}:N", sort=None, axis=names)
        return [base.encode(x=x).mark_bar(opacity=0.9), *_rules(chart, theme)]
    spread = base.transform_calculate(start="datum.x - 0.38", end="datum.x + 0.38")
    bars = spread.encode(x=_places(chart, "start"), x2="end:Q", y2=low)
    return [bars.mark_rect(opacity=0.9), *_rules(chart, theme)]


@KINDS.register("intervals")
def _intervals(chart: Chart, theme: Theme) -> Layers:
    """Draw a line a name: its interval and value, single ones as ticks, a second value hollow."""
    y, colour, tip = _line_axis(chart), _colour(chart, theme), _tip(chart)
    base = alt.Chart().encode(y=y, color=colour, tooltip=tip)
    zero = _inline([{"zero": 0}]).encode(x=_x(chart, "zero"))
    layers: Layers = [*_tints(chart, theme, y), zero.mark_rule(opacity=0.8, clip=True)]
    if chart.faint:
        single = alt.Chart(alt.NamedData(name="faint"))
        single = single.encode(y=y, x=_x(chart), color=colour, tooltip=tip)
        layers.append(single.mark_tick(opacity=0.5, thickness=1.5, size=9))
    if chart.low:
        ends = base.transform_filter(f"isValid(datum.{chart.low})")
        ends = ends.encode(x=_x(chart, chart.low), x2=f"{chart.high}:Q")
        wide = {"strokeWidth": 5, "opacity": 0.35} if chart.other else {"strokeWidth": 2}
        layers.append(ends.mark_rule(**{"opacity": 1, **wide}))
    if chart.other:
        there = base.transform_filter(f"isValid(datum.{chart.other})")
        there = there.encode(x=_x(chart, chart.other))
        joined = there.encode(x2=f"{chart.x.field}:Q").mark_rule(strokeWidth=1.5, opacity=0.55)
        hollow = there.encode(fill=alt.value(theme.paper))
        layers += [joined, hollow.mark_point(size=50, opacity=1, strokeWidth=1.5)]
    return [*layers, _points(base.encode(x=_x(chart)), chart, theme)]


def _tints(chart: Chart, theme: Theme, y: alt.Y) -> Layers:
    """Return a tint behind the lines of every other group; one layer has every line in order."""
    groups = {row[chart.y.field]: row[chart.join] if chart.join else "" for row in chart.rows}
    tinted = list(dict.fromkeys(groups.values()))[1::2]
    rows = [{chart.y.field: visible(n), "tint": group in tinted} for n, group in groups.items()]
    opacity = alt.condition("datum.tint", alt.value(0.07), alt.value(0))
    return [_inline(rows).encode(y=y, opacity=opacity).mark_rect(color=theme.muted, tooltip=None)]


@KINDS.register("scatter")
def _scatter(chart: Chart, theme: Theme) -> Layers:
    """Draw points, those of a group on a faint line, some with their names."""
    x, y = _x(chart), _y(chart)
    base = alt.Chart().encode(x=x, y=y, color=_colour(chart, theme))
    layers: Layers = []
    if chart.join:
        layers.append(base.encode(detail=f"{chart.join}:N").mark_line(strokeWidth=1, opacity=0.3))
    if chart.lines:
        line = alt.Chart(alt.NamedData(name="lines")).encode(x=x, y=y)
        dashed = line.mark_line(color=theme.muted, strokeDash=[6, 4], strokeWidth=1.5, opacity=0.8)
        layers.append(dashed)
    layers += [*_rules(chart, theme), _points(base, chart, theme)]
    return [*layers, *(_labels(chart, theme) if chart.label else [])]


def _placed(row: Row, chart: Chart) -> bool:
    """Return whether both numbers that place the mark of a row are there."""
    places = (row[chart.x.field], row[chart.y.field])
    return all(place is not None and math.isfinite(place) for place in places)


def _labels(chart: Chart, theme: Theme) -> Layers:
    """Return short names above their points; longer ones at the side that has room, apart."""
    placed = [row for row in chart.rows if _placed(row, chart)]
    named = [row for row in placed if row[chart.label]]
    if not named:
        return []
    short = max(len(row[chart.label]) for row in named) <= _SHORT_LABEL
    across, heights = ([row[axis.field] for row in placed] for axis in (chart.x, chart.y))
    middle = (min(across) + max(across)) / 2
    heights += [0.0] if chart.y.scale == "zero" else []
    low, least = min(heights), _LEAST_SPAN * max(map(abs, heights))
    gap = 0.0 if short else min(0.05, 1 / len(named)) * max(max(heights) - low, least)
    last, rows = math.inf, []
    for n, row in enumerate(sorted(named, key=lambda row: -row[chart.y.field]), start=1):
        room = low + (len(named) - n) * gap  # For the names below it.
        last = max(min(row[chart.y.field], last - gap), room)
        side = "above" if short else "left" if row[chart.x.field] > middle else "right"
        spot = {"x": rounded(row[chart.x.field])}
        spot |= {"y": rounded(row[chart.y.field] if short else last)}
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
        base = _inline(values).encode(x=_x(chart, "x"), y=_y(chart, "y"), text="text:N")
        made += [base.mark_text(**look, **how) for how in (halo, {}) if values]
    return made


@KINDS.register("heat")
def _heat(chart: Chart, theme: Theme) -> Layers:
    """Draw shares as shades, with their text."""
    looks = {"labelAngle": 0, "domain": False, "ticks": False, "orient": "top"}
    axis = alt.Axis(title=visible(chart.x.title), **looks)
    x = alt.X(f"{chart.x.field}:N", sort=None, axis=axis)
    base = alt.Chart().encode(x=x, y=_line_axis(chart), tooltip=_tip(chart))
    scale = alt.Scale(domain=[0, 1], range=[0.02, 0.6])
    opacity = alt.Opacity(f"{chart.series}:Q", scale=scale, legend=None)
    return [
        base.encode(opacity=opacity).mark_rect(color=theme.series[0], cornerRadius=3),
        base.encode(text=f"{chart.label}:N").mark_text(color=theme.ink),
    ]
