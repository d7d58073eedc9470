"""Both conditions of a control as Vega-Lite charts, and those as PNG and SVG files."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import altair as alt

from layerwise.card.record import ModelInfo
from layerwise.profile.record import Control, Slope, StepSizes
from layerwise.report.old.charts_profile import (
    change_axis,
    depth_labels,
    depth_names,
    ols_rows,
    places,
)
from layerwise.report.old.drawing import (
    LIGHT,
    Places,
    Rows,
    Spec,
    Theme,
    block_axis,
    depth_axis,
    dots,
    exported,
    log_axis,
    plain_axis,
    short,
    titled,
    unlabelled,
    with_data,
)
from layerwise.report.old.story import (
    CONDITIONS,
    condition_profiles,
    every_block,
    mean_changes,
    number,
    readouts,
    step_groups,
    with_interval,
)
from layerwise.report.old.text import stack_labels

__all__ = ["control_charts", "export_control_charts"]

_DISTANCE = "Procrustes distance"
_ABOUT = "standard and equal-step"


def control_charts(control: Control, *, theme: Theme = LIGHT) -> dict[str, Spec]:
    """Vega-Lite specifications by chart name: both profiles, slopes, readouts and step sizes."""
    made = {"both-profiles": _both(control, theme), "slopes": _slopes(control, theme)}
    steps = _step_rows(control)
    if steps:
        made["step-sizes"] = _step_sizes(control, steps, theme)
    names = list(readouts(control.standard))
    means = {name: _mean_rows(control, name) for name in names}
    top = _top(row for rows in means.values() for row in rows)
    for name in names if len(names) > 1 else ():
        made[f"readout-{name}"] = _readout(control, name, means[name], theme, top=top)
    return made


def export_control_charts(control: Control) -> dict[str, bytes]:
    """``chart-<name>.png`` and ``chart-<name>.svg`` of each chart, drawn without any network."""
    return exported(control_charts(control))


def _colour(theme: Theme) -> alt.Color:
    return alt.Color("condition:N", scale=_scale(theme), legend=_legend())


def _scale(theme: Theme) -> alt.Scale:
    return alt.Scale(domain=list(CONDITIONS.values()), range=list(theme.series[:2]))


def _fill(theme: Theme) -> alt.Fill:
    return alt.Fill("condition:N", scale=_scale(theme), legend=_legend())


def _legend() -> alt.Legend:
    return alt.Legend(symbolType="circle", symbolOpacity=1)


def _tip(**titles: str) -> list[alt.Tooltip]:
    heads = [alt.Tooltip("head:N", title="Block")]
    return heads + [alt.Tooltip(f"{key}:N", title=title) for key, title in titles.items()]


# --- Both profiles ----------------------------------------------------------------------------


def _both(control: Control, theme: Theme) -> Spec:
    """Each condition's mean over the seeds, the seeds behind it, and its least-squares line."""
    means, seeds = _mean_rows(control), _seed_rows(control)
    y, spots = change_axis(_top([*means, *seeds])), places(control.standard)
    x = block_axis("x", spots)
    layers = [
        depth_names(depth_axis("x", spots, depth_labels(control.standard)), y),
        *_pale(theme, x, y, seeds),
        *_lines(theme, x, y),
        *_means(theme, unlabelled(x), y, means),
    ]
    title = f"{_DISTANCE} by block (readout {control.standard.readout})"
    data = {"means": means, "seeds": seeds, "lines": _line_rows(control)}
    chart = titled(layers, title, data="means", about=_ABOUT, height=280)
    return with_data(chart.resolve_axis(x="independent"), data)


def _top(rows: Iterable[dict[str, Any]]) -> float:
    return max((row["procrustes"] for row in rows), default=0.0)


def _mean_rows(control: Control, readout: str | None = None) -> Rows:
    """The mean change of each block over the seeds, for each condition."""
    rows = []
    for condition, name in CONDITIONS.items():
        profiles = condition_profiles(control, condition)
        labels = depth_labels(profiles[0])
        for index, change in mean_changes(profiles, readout).items():
            depth = labels.get(index, "")
            where = f"block {index}" + (f" · depth {depth}" if depth else "")
            told = {"head": f"{where} · {name}", "condition": name, "marked": bool(depth)}
            change_text = {"procrustes": short(change), "procrustes_tip": number(change)}
            rows.append({"x": index} | told | change_text)
    return rows


def _seed_rows(control: Control) -> Rows:
    """Each seed's profile; none for a single one, which the mean already is."""
    if len(control.runs) < 2:
        return []
    return [
        {
            "x": block.index,
            "procrustes": short(block.procrustes),
            "condition": name,
            "seed": str(seed),
        }
        for condition, name in CONDITIONS.items()
        for seed, profile in enumerate(condition_profiles(control, condition))
        for block in every_block(profile)
    ]


def _line_rows(control: Control) -> Rows:
    rows = []
    for condition, name in CONDITIONS.items():
        profiles, slope = condition_profiles(control, condition), control.slopes[condition]
        depths = [depth for profile in profiles for depth in profile.depths]
        ends = (slope.slope, slope.low, slope.high)
        spots = ols_rows(depths, ends, blocks=len(every_block(profiles[0])))
        rows += [spot | {"condition": name} for spot in spots]
    return rows


def _pale(theme: Theme, x: alt.X, y: Spec, rows: Rows) -> list[alt.Chart]:
    base = alt.Chart(alt.NamedData(name="seeds")).encode(
        x=unlabelled(x), y=alt.Y("procrustes:Q", **y), color=_colour(theme), detail="seed:N"
    )
    return [base.mark_line(strokeWidth=1, opacity=0.4)] if rows else []


def _lines(theme: Theme, x: alt.X, y: Spec) -> list[alt.Chart]:
    base = alt.Chart(alt.NamedData(name="lines")).encode(x=x, color=_colour(theme))
    fan = base.encode(x=unlabelled(x), y=alt.Y("low:Q", **y), y2="high:Q")
    line = base.encode(y=alt.Y("line:Q", **y))
    return [
        fan.mark_area(opacity=0.12, clip=True),
        line.mark_line(strokeDash=[6, 4], strokeWidth=1.3, clip=True),
    ]


def _means(theme: Theme, x: alt.X, y: Spec, rows: Rows) -> list[alt.Chart]:
    points = alt.Chart().encode(x=x, y=alt.Y("procrustes:Q", **y), color=_colour(theme))
    told = points.encode(tooltip=_tip(procrustes_tip=_DISTANCE))
    line = points.mark_line(strokeWidth=2, opacity=0.75)
    return [line, dots(told, _fill(theme), theme, mark="marked", many=len(rows) > 96)]


def _readout(control: Control, name: str, rows: Rows, theme: Theme, *, top: float) -> Spec:
    """The means of both conditions under one readout, on the scale of all."""
    x = block_axis("x", places(control.standard))
    layers = _means(theme, x, change_axis(top), rows)
    data = f"means-{name}"
    chart = titled(layers, f"Readout {name}", data=data, about=_ABOUT, height=150)
    return with_data(chart, {data: rows})


# --- Slopes -----------------------------------------------------------------------------------


def _slopes(control: Control, theme: Theme) -> Spec:
    """Each slope on its interval, and where 0 is."""
    rows = list(_slope_rows(control))
    x = {
        "axis": plain_axis(labelFlush=False),
        "title": None,
        "scale": alt.Scale(zero=True, nice=True),
    }
    y = alt.Y(
        "label:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False, labelPadding=8)
    )
    base = alt.Chart().encode(y=y, color=_colour(theme), tooltip=_tip(slope_tip="Slope"))
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}]))
    size = alt.condition("datum.pooled", alt.value(90), alt.value(35))
    points = base.encode(x=alt.X("slope:Q", **x), fill=_fill(theme))
    layers = [
        zero.mark_rule(opacity=0.8).encode(x=alt.X("zero:Q", **x)),
        base.encode(x=alt.X("low:Q", **x), x2="high:Q").mark_rule(strokeWidth=2),
        points.encode(size=size).mark_point(opacity=1),
    ]
    title = "Slope over relative depth, with its 95 % interval"
    chart = titled(layers, title, data="slopes", about=_ABOUT, height=26 * len(rows))
    return with_data(chart, {"slopes": rows})


def _slope_rows(control: Control) -> Iterator[dict[str, Any]]:
    for condition, name in CONDITIONS.items():
        label = f"seed {control.runs[0].seed}" if len(control.runs) == 1 else "all seeds"
        yield _slope_row(control.slopes[condition], label, name, pooled=True)
        profiles = condition_profiles(control, condition) if len(control.runs) > 1 else []
        for run, profile in zip(control.runs, profiles, strict=False):
            alone = Slope(profile.slope, profile.slope_low, profile.slope_high)
            yield _slope_row(alone, f"seed {run.seed}", name, pooled=False)


def _slope_row(slope: Slope, label: str, condition: str, *, pooled: bool) -> dict[str, Any]:
    ends = {"slope": short(slope.slope), "low": short(slope.low), "high": short(slope.high)}
    told = f"{condition}, {label}"
    tip = with_interval(slope.slope, slope.low, slope.high)
    return ends | {
        "label": told,
        "head": told,
        "slope_tip": tip,
        "condition": condition,
        "pooled": pooled,
    }


# --- Step sizes -------------------------------------------------------------------------------


def _step_rows(control: Control) -> Rows:
    """A row a layer group and condition; steps of 0, which a log axis has not, are left out."""
    axis, rest, heads = _group_places(control.standard.before)
    spots = {None: rest} | {row: x for row, (x, _) in enumerate(axis.blocks)}
    rows = []
    for condition, name in CONDITIONS.items():
        for group in step_groups(control, condition):
            x = spots.get(group.row)
            if x is not None and group.median > 0:
                rows.append(_step_row(group, name) | {"x": x, "head": f"{heads[x]} · {name}"})
    return rows


def _step_row(group: StepSizes, condition: str) -> dict[str, Any]:
    low = group.low if group.low > 0 else group.median
    asked = "" if group.asked is None else f", asked {number(group.asked)}"
    told = with_interval(group.median, group.low, group.high) + asked
    numbers = {"step": short(group.median), "low": short(low), "high": short(group.high)}
    return numbers | {"step_tip": told, "condition": condition, "marked": condition == "standard"}


def _group_places(model: ModelInfo) -> tuple[Places, int, dict[int, str]]:
    """Where the layer groups stand, where the rest does, and what each is called there."""
    labels = stack_labels(model)
    blocks: list[tuple[int, int]] = []
    heads: dict[int, str] = {}
    for number_of_stack, stack in enumerate(model.stacks):
        name = f"{labels[stack.name]} " if len(labels) > 1 else ""
        for index in range(stack.blocks):
            x = len(blocks) + number_of_stack
            blocks.append((x, index))
            heads[x] = f"{name}block {index}"
    rest = len(blocks) + len(model.stacks)
    return Places(tuple(blocks), rest), rest, heads | {rest: "all that is in no block"}


def _step_sizes(control: Control, rows: Rows, theme: Theme) -> Spec:
    """Median step of each group on a log axis, between its ends, and the tau that was asked."""
    taus = sorted({run.tau for run in control.runs} | {control.tau})
    ends = [row[end] for row in rows for end in ("low", "high")] + taus
    domain, ticks = log_axis(min(ends), max(ends))
    scale = alt.Scale(type="log", domain=domain, nice=False)
    y = {
        "scale": scale,
        "axis": plain_axis(values=ticks, tickCount=len(ticks), format="~e"),
        "title": None,
    }
    axis, rest, _ = _group_places(control.standard.before)
    base = alt.Chart().encode(x=block_axis("x", axis), color=_colour(theme))
    points = base.encode(y=alt.Y("step:Q", **y), tooltip=_tip(step_tip="Step"))
    line = points.transform_filter(f"datum.x != {rest}").encode(tooltip=alt.value(None))
    layers = [
        *_tau_rules(taus, theme, y),
        base.encode(y=alt.Y("low:Q", **y), y2="high:Q").mark_rule(opacity=0.5, strokeWidth=1.2),
        line.mark_line(strokeWidth=1.5, opacity=0.6),
        dots(points, _fill(theme), theme, mark="marked", many=len(rows) > 96),
    ]
    title = "Relative step ||ΔW|| / ||W|| by layer group, log scale"
    chart = titled(layers, title, data="steps", about=_ABOUT, height=240)
    return with_data(chart, {"steps": rows})


def _tau_rules(taus: Sequence[float], theme: Theme, y: Spec) -> list[alt.Chart]:
    """A dashed line at each tau, and its name at the first."""
    values = [{"tau": short(tau), "text": "" if n else "τ"} for n, tau in enumerate(taus)]
    base = alt.Chart(alt.InlineData(values=values)).encode(y=alt.Y("tau:Q", **y))
    text = base.encode(x=alt.value("width"), text="text:N")
    return [
        base.mark_rule(strokeDash=[4, 3], opacity=0.8),
        text.mark_text(align="right", dy=-7, color=theme.muted),
    ]
