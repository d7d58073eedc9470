"""An analysis of many runs as Vega-Lite charts, and those as PNG and SVG files."""

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from layerwise.analysis.names import DEPTHS, DISTANCES, FIVE
from layerwise.analysis.record import Analysis, EqualStepSlope, Fit, MeanSlope, Point
from layerwise.report.old.drawing import (
    LIGHT,
    Rows,
    Spec,
    Theme,
    exported,
    plain_axis,
    short,
    titled,
    with_data,
)
from layerwise.report.old.story_analysis import (
    DISTANCE_NAMES,
    METRIC_NAMES,
    fixed,
    main_metric,
    metrics_of,
    with_ends,
)
from layerwise.report.old.text import counted, shown

__all__ = ["MOST_ROWS", "analysis_charts", "export_analysis_charts"]

MOST_ROWS = 120
"""Lines of a chart; of more, the first are drawn, and the page says so."""

_KINDS = ("sequential", "parallel", "none", "unknown")
_STEP = 18


def analysis_charts(analysis: Analysis, *, theme: Theme = LIGHT) -> dict[str, Spec]:
    """Vega-Lite specifications by chart name; of the parts that the analysis has."""
    made: dict[str, Spec] = {}
    rows = _slope_rows(analysis)
    if rows:
        made["slopes"] = _slopes(rows, theme)
    for metric in metrics_of(analysis):
        pairs = [row for row in analysis.equal_step if row.metric == metric][:MOST_ROWS]
        if pairs:
            made[f"equal-step-{metric}"] = _equal_step(pairs, metric, theme)
    if any(row.shares for row in analysis.widths):
        made["widths"] = _widths(analysis, theme)
    for distance in DISTANCES:
        names = (distance, main_metric(analysis))
        points = [p for p in analysis.points if (p.distance, p.metric) == names]
        if points:
            line = next(f for f in analysis.fits if (f.distance, f.metric) == names)
            made[f"distance-{distance}"] = _distance(analysis, points, line, theme)
    return made


def export_analysis_charts(analysis: Analysis) -> dict[str, bytes]:
    """``chart-<name>.png`` and ``chart-<name>.svg`` of each chart, drawn without any network."""
    return exported(analysis_charts(analysis))


def _labels(keys: Iterable[tuple[str, ...]], *, limit: int = 44) -> dict[tuple[str, ...], str]:
    """A short label for each of `keys`, no two the same."""
    labels: dict[tuple[str, ...], str] = {}
    taken: set[str] = set()
    for key in dict.fromkeys(keys):
        label = " · ".join(shown(part, limit=limit // len(key)) for part in key)
        label = f"{label} ({len(labels) + 1})" if label in taken else label
        labels[key] = label
        taken.add(label)
    return labels


def _scaled(names: Sequence[str], theme: Theme) -> alt.Scale:
    return alt.Scale(domain=list(names), range=list(theme.series[: len(names)]))


def _legend() -> alt.Legend:
    return alt.Legend(symbolType="circle", symbolOpacity=1)


def _row_axis(field: str = "label") -> alt.Y:
    """Lines named at their left, in the order of the data."""
    axis = alt.Axis(domain=False, ticks=False, labelPadding=8, labelLimit=230)
    return alt.Y(f"{field}:N", sort=None, title=None, axis=axis)


def _tip(**titles: str) -> list[alt.Tooltip]:
    heads = [alt.Tooltip("head:N", title="Run")]
    return heads + [alt.Tooltip(f"{key}:N", title=title) for key, title in titles.items()]


def _number(title: str, **more: Any) -> Spec:
    """Scale and axis of a number that may be below 0."""
    scale = alt.Scale(zero=True, nice=True)
    return {"axis": plain_axis(**more), "title": title, "scale": scale}


def _zero(channel: str, scale: Spec) -> alt.Chart:
    """A line at 0."""
    at = alt.X("zero:Q", **scale) if channel == "x" else alt.Y("zero:Q", **scale)
    base = alt.Chart(alt.InlineData(values=[{"zero": 0}]))
    return base.mark_rule(opacity=0.8).encode(**{channel: at})


# --- Slopes -----------------------------------------------------------------------------------


def _slope_rows(analysis: Analysis) -> Rows:
    """Mean slopes over the five conditions, then that of each, by model and objective."""
    found = [row for row in analysis.mean_slopes if row.condition in FIVE]
    labels = _labels(list(dict.fromkeys((r.model, r.objective) for r in found))[:MOST_ROWS])
    drawn = [row for row in found if (row.model, row.objective) in labels]
    means: dict[tuple[str, str, str], list[float]] = {}
    for row in drawn:
        means.setdefault((row.model, row.objective, row.metric), []).append(row.slope)
    return [
        *(_mean_row(labels[key[:2]], key, slopes) for key, slopes in means.items()),
        *(_condition_row(labels[row.model, row.objective], row) for row in drawn),
    ]


def _mean_row(label: str, key: tuple[str, str, str], slopes: list[float]) -> dict[str, Any]:
    mean = sum(slopes) / len(slopes)
    told = {"head": f"{label} · mean of {len(slopes)} conditions", "tip": fixed(mean)}
    row = {"label": label, "model": shown(key[0]), "metric": METRIC_NAMES[key[2]]}
    return row | {"slope": short(mean), "mean": True} | told


def _condition_row(label: str, row: MeanSlope) -> dict[str, Any]:
    told = {
        "head": f"{label} · {shown(row.condition)}",
        "tip": with_ends(row.slope, row.low, row.high),
    }
    plain = {"label": label, "metric": METRIC_NAMES[row.metric], "mean": False}
    return plain | {"slope": short(row.slope)} | told


def _slopes(rows: Rows, theme: Theme) -> Spec:
    """Each model and objective: the mean of the five conditions, and each of them."""
    names = list(dict.fromkeys(row["metric"] for row in rows))
    x, y = _number("Slope over relative depth"), _row_axis()
    scale = _scaled(names, theme)
    colour = alt.Color("metric:N", scale=scale, legend=_legend())
    base = alt.Chart().encode(y=y, x=alt.X("slope:Q", **x), color=colour, tooltip=_tip(tip="Slope"))
    means = base.encode(fill=alt.Fill("metric:N", scale=scale, legend=_legend()))
    banded, lines = _banded(rows)
    layers = [
        _bands(theme, y),
        _zero("x", x),
        base.transform_filter("!datum.mean").mark_tick(thickness=1.5, size=9, opacity=0.45),
        means.transform_filter("datum.mean").mark_point(size=46, opacity=1),
    ]
    about = f"{lines} pairs of model and objective"
    title = "Slope by model and objective"
    chart = titled(layers, title, data="slopes", about=about, height=_STEP * lines)
    return with_data(chart, {"slopes": banded})


def _banded(rows: Rows) -> tuple[Rows, int]:
    """The rows, the first of each line marked, and tinted by every other model; and the lines."""
    models = list(dict.fromkeys(row["model"] for row in rows if "model" in row))
    lines: set[str] = set()
    marked = []
    for row in rows:
        first = row["label"] not in lines
        lines.add(row["label"])
        band = first and models.index(row["model"]) % 2 == 1
        marked.append(row | {"first": first, "band": band})
    return marked, len(lines)


def _bands(theme: Theme, y: alt.Y) -> alt.Chart:
    """A tint behind the lines of every other model; it has every line, which sets their order."""
    opacity = alt.condition("datum.band", alt.value(0.07), alt.value(0))
    base = alt.Chart().transform_filter("datum.first").encode(y=y, opacity=opacity)
    return base.mark_rect(color=theme.muted, tooltip=None)


# --- Equal-step -------------------------------------------------------------------------------


def _kind(block: str) -> str:
    """A kind of block as one of those that a legend has."""
    return block if block in _KINDS else "unknown"


def _blocks(kinds: Iterable[str], theme: Theme) -> alt.Scale:
    """The colours of kinds of blocks: one kind, one colour, on every chart."""
    used = set(kinds)
    found = [kind for kind in _KINDS if kind in used]
    colours = [theme.series[_KINDS.index(kind)] for kind in found]
    return alt.Scale(domain=[_block_name(kind) for kind in found], range=colours)


def _block_name(kind: str) -> str:
    return {"none": "neither kind of block", "unknown": "unknown blocks"}.get(
        kind, f"{kind} blocks"
    )


def _equal_step(pairs: list[EqualStepSlope], metric: str, theme: Theme) -> Spec:
    """For each model and objective the slope under standard, and what equal-step makes of it."""
    ordered = sorted(pairs, key=lambda row: (_KINDS.index(_kind(row.block)), row.model))
    labels = _labels((row.model, row.objective) for row in ordered)
    rows, lines = _banded([_pair_row(row, labels[row.model, row.objective]) for row in ordered])
    x, y = _number("Slope over relative depth"), _row_axis()
    scale = _blocks((_kind(row.block) for row in pairs), theme)
    tip = _tip(standard_tip="standard", tip="equal-step", ratio="ratio")
    base = alt.Chart().encode(
        y=y, color=alt.Color("block:N", scale=scale, legend=_legend()), tooltip=tip
    )
    fill = alt.Fill("block:N", scale=scale, legend=_legend())
    layers = [
        _bands(theme, y),
        _zero("x", x),
        *_ranges(base, rows, x),
        *_standard(base, rows, theme, x),
        base.encode(x=alt.X("equal:Q", **x), fill=fill).mark_point(size=50, opacity=1),
    ]
    data = f"equal-step-{metric}"
    title = f"Equal-step against standard: slope of the {METRIC_NAMES[metric]}"
    about = f"{lines} pairs of model and objective"
    chart = titled(layers, title, data=data, about=about, height=_STEP * lines)
    return with_data(chart, {data: rows})


def _ranges(base: alt.Chart, rows: Rows, x: Spec) -> list[alt.Chart]:
    """The intervals under equal-step, where there are any."""
    if all(row["low"] is None for row in rows):
        return []
    drawn = base.transform_filter("isValid(datum.low)").encode(x=alt.X("low:Q", **x), x2="high:Q")
    return [drawn.mark_rule(strokeWidth=5, opacity=0.3)]


def _standard(base: alt.Chart, rows: Rows, theme: Theme, x: Spec) -> list[alt.Chart]:
    """The slopes under standard, and a line from each to that under equal-step."""
    if all(row["standard"] is None for row in rows):
        return []
    there = base.transform_filter("isValid(datum.standard)").encode(x=alt.X("standard:Q", **x))
    return [
        there.encode(x2="equal:Q").mark_rule(strokeWidth=1.5, opacity=0.55),
        there.encode(fill=alt.value(theme.paper)).mark_point(size=50, opacity=1, strokeWidth=1.5),
    ]


def _pair_row(row: EqualStepSlope, label: str) -> dict[str, Any]:
    told = {
        "head": f"{label} · {_block_name(_kind(row.block))}",
        "standard_tip": fixed(row.standard),
        "tip": with_ends(row.equal_step, row.low, row.high),
        "ratio": with_ends(row.ratio, row.ratio_low, row.ratio_high),
    }
    numbers = {"equal": row.equal_step, "standard": row.standard, "low": row.low, "high": row.high}
    plain = {key: None if value is None else short(value) for key, value in numbers.items()}
    names = {"label": label, "model": shown(row.model), "block": _block_name(_kind(row.block))}
    return names | plain | told


# --- Widths -----------------------------------------------------------------------------------


def _widths(analysis: Analysis, theme: Theme) -> Spec:
    """Each model's share of the change at each of the seven depths, the darker the more."""
    found = [row for row in analysis.widths if row.shares][:MOST_ROWS]
    labels = _labels((row.model,) for row in found)
    rows = [
        {"label": labels[row.model,], "depth": _percent(name), "share": short(share)}
        | {"head": f"{labels[row.model,]} · depth {_percent(name)}", "tip": f"{share:.1%}"}
        | {"text": f"{100 * share:.1f}"}
        for row in found
        for name, share in zip(DEPTHS, row.shares, strict=True)
    ]
    axis = alt.Axis(labelAngle=0, domain=False, ticks=False, title="Relative depth", orient="top")
    base = alt.Chart().encode(
        x=alt.X("depth:N", sort=None, axis=axis), y=_row_axis(), tooltip=_tip(tip="Share")
    )
    opacity = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.02, 0.6]), legend=None)
    layers = [
        base.encode(opacity=opacity).mark_rect(color=theme.series[0], cornerRadius=3),
        base.encode(text="text:N").mark_text(color=theme.ink),
    ]
    title = "Width: share of the CKA change at each depth, in %"
    about = counted(len(found), "model")
    chart = titled(layers, title, data="widths", about=about, height=30 * len(found))
    return with_data(chart, {"widths": rows})


def _percent(column: str) -> str:
    """A depth's column as a percentage."""
    return f"{100 * float(column[1:]):.0f} %"


# --- Distances --------------------------------------------------------------------------------


def _distance(analysis: Analysis, points: list[Point], line: Fit, theme: Theme) -> Spec:
    """Slope against distance, a faint line a model, with the pooled line and anomalies named."""
    kinds = {row.model: _kind(row.block) for row in analysis.models}
    labels = _labels(((point.model, point.objective) for point in points), limit=60)
    data = f"distance-{line.distance}"
    most = max(point.at for point in points)
    rows = _spread(
        [
            _point_row(p, labels[p.model, p.objective], kinds[p.model]) | {"near": p.at < most / 2}
            for p in points
        ]
    )
    scale = _blocks((kinds[point.model] for point in points), theme)
    name = DISTANCE_NAMES[line.distance]
    x = _number(f"Distance of the objective, {name}")
    y = _number(f"Slope of the {METRIC_NAMES[line.metric]}")
    colour = alt.Color("block:N", scale=scale, legend=_legend())
    fill = alt.Fill("block:N", scale=scale, legend=_legend())
    base = alt.Chart().encode(x=alt.X("at:Q", **x), y=alt.Y("slope:Q", **y), color=colour)
    told = base.encode(tooltip=_tip(at_tip="distance", tip="slope", residual="residual"))
    layers = [
        base.encode(detail="model:N").mark_line(strokeWidth=1, opacity=0.3),
        *_pooled_line(line, points, theme, x, y),
        told.encode(fill=alt.condition("datum.anomaly", fill, alt.value(theme.paper))).mark_point(
            size=48, opacity=1, strokeWidth=1.4
        ),
        *_names(rows, theme, x, y),
    ]
    title = f"Slope against {name} distance"
    about = f"{len(points)} pairs of model and objective"
    chart = titled(layers, title, data=data, about=about, height=320)
    return with_data(chart, {data: rows})


def _point_row(point: Point, label: str, kind: str) -> dict[str, Any]:
    return {
        "at": short(point.at),
        "slope": short(point.slope),
        "model": shown(point.model),
        "block": _block_name(kind),
        "anomaly": point.anomaly,
        "name": label,
        "head": label,
        "at_tip": fixed(point.at),
        "tip": fixed(point.slope),
        "residual": "–" if point.residual is None else f"{point.residual:+.2f} sd",
    }


def _pooled_line(line: Fit, points: list[Point], theme: Theme, x: Spec, y: Spec) -> list[alt.Chart]:
    """The least-squares line from the least distance to the largest, dashed."""
    if line.intercept is None or line.gradient is None:
        return []
    ends = [min(p.at for p in points), max(p.at for p in points)]
    spots = [{"at": short(e), "slope": short(line.intercept + line.gradient * e)} for e in ends]
    base = alt.Chart(alt.InlineData(values=spots))
    drawn = base.encode(x=alt.X("at:Q", **x), y=alt.Y("slope:Q", **y))
    return [drawn.mark_line(color=theme.muted, strokeDash=[6, 4], strokeWidth=1.5, opacity=0.8)]


def _names(rows: Rows, theme: Theme, x: Spec, y: Spec) -> list[alt.Chart]:
    """The names of anomalies, to the side that has room."""
    base = alt.Chart().encode(x=alt.X("at:Q", **x), y=alt.Y("name_at:Q", **y), text="name:N")
    sides = {"right": ("!datum.near", -9), "left": ("datum.near", 9)}
    return [
        base.transform_filter(f"datum.anomaly && {where}").mark_text(
            align=align, dx=dx, limit=240, color=theme.ink
        )
        for align, (where, dx) in sides.items()
        if any(row["anomaly"] and row["near"] == (align == "left") for row in rows)
    ]


def _spread(rows: Rows) -> Rows:
    """The rows with the height at which an anomaly is named, so that no two names overlap."""
    slopes = [row["slope"] for row in rows]
    gap = 0.05 * (max(*slopes, 0.0) - min(*slopes, 0.0))
    last = float("inf")
    heights: dict[str, float] = {}
    for row in sorted(rows, key=lambda row: -row["slope"]):
        if row["anomaly"]:
            last = min(row["slope"], last - gap)
            heights[row["head"]] = short(last)
    return [row | {"name_at": heights.get(row["head"], row["slope"])} for row in rows]
