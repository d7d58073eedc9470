"""A depth profile as Vega-Lite charts, and those as PNG and SVG files."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import altair as alt

from layerwise.profile.record import DepthChange, Profile, ReadoutProfile
from layerwise.report.old.charts_audit import audit_charts
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
    plain_axis,
    short,
    titled,
    unlabelled,
    with_data,
)
from layerwise.report.old.story import every_block, number, percent, readouts
from layerwise.report.old.text import counted

__all__ = [
    "MEASURES",
    "change_axis",
    "depth_labels",
    "depth_names",
    "export_profile_charts",
    "ols_rows",
    "places",
    "profile_charts",
    "seven",
]

MEASURES = {
    "cka": "CKA change",
    "rsa": "RSA change",
    "shared_pca_cka": "Shared-PCA CKA change",
}
"""The changes beside the Procrustes distance: field and title."""

_DISTANCE = "Procrustes distance"


def profile_charts(profile: Profile, *, theme: Theme = LIGHT) -> dict[str, Spec]:
    """Vega-Lite specifications by chart name: the profile, its readouts, measures and width.

    Where an adapter was audited, its size and use by block too.
    """
    rows = _rows(profile)
    made = {"depth-profile": _depth_profile(profile, rows, theme)}
    found = readouts(profile)
    top = max(block.procrustes for r in found.values() for block in every_block(r))
    for name, readout in found.items() if len(found) > 1 else ():
        made[f"readout-{name}"] = _readout_chart(name, readout, theme, top=top)
    for key, title in MEASURES.items():
        made[key.replace("_", "-")] = _measure_chart(rows, key, title, theme)
    if profile.width:
        made["width"] = _width_chart(profile, theme)
    return made | audit_charts(profile, theme)


def export_profile_charts(profile: Profile) -> dict[str, bytes]:
    """``chart-<name>.png`` and ``chart-<name>.svg`` of each chart, drawn without any network."""
    return exported(profile_charts(profile))


# --- Numbers ----------------------------------------------------------------------------------


def seven(profile: Profile | ReadoutProfile) -> dict[int, list[float]]:
    """The relative depths that each block stands for, of those that it stands for any of."""
    found: dict[int, list[float]] = {}
    for depth in profile.depths:
        found.setdefault(depth.index, []).append(depth.relative)
    return found


def places(profile: Profile | ReadoutProfile) -> Places:
    """The axis that the blocks of a profile are drawn on."""
    return Places(tuple((block.index, block.index) for block in every_block(profile)))


def _rows(profile: Profile | ReadoutProfile) -> Rows:
    labels = depth_labels(profile)
    return [_row(block, labels.get(block.index, "")) for block in every_block(profile)]


def _row(block: DepthChange, label: str) -> dict[str, Any]:
    head = f"block {block.index}" + (f" · depth {label}" if label else "")
    distance = number(block.procrustes)
    noise = "" if block.noise is None else f" (halves differ by {number(block.noise)})"
    row = {"x": block.index, "head": head, "marked": bool(label)}
    row |= {"procrustes": short(block.procrustes), "procrustes_tip": f"{distance}{noise}"}
    for key in MEASURES:
        row |= {key: short(getattr(block, key)), f"{key}_tip": number(getattr(block, key))}
    return row


def ols_rows(
    depths: Sequence[DepthChange], ends: tuple[float, float, float], *, blocks: int
) -> Rows:
    """The line of a slope through the mean of the seven depths, and its interval's fan.

    Args:
        depths: The seven depths.
        ends: Slope per relative depth, and both ends of its interval.
        blocks: How many blocks relative depth 1 is.
    """
    relative = [depth.relative for depth in depths]
    centre, middle = fmean(relative), fmean(depth.procrustes for depth in depths)
    spots = (relative[0], centre, relative[-1])
    return [
        {"x": short(r * blocks - 1)}
        | {
            name: short(middle + slope * (r - centre))
            for name, slope in zip(("line", "low", "high"), ends, strict=True)
        }
        for r in spots
    ]


def _ols(found: Profile | ReadoutProfile) -> Rows:
    ends = (found.slope, found.slope_low, found.slope_high)
    return ols_rows(found.depths, ends, blocks=len(every_block(found)))


# --- Drawings ---------------------------------------------------------------------------------


def change_axis(top: float, *, ticks: int = 5) -> Spec:
    """Scale and axis of a change: from 0, and not empty where nothing moved."""
    scale = alt.Scale(domain=[0, short(1.04 * top) or 0.1], nice=True)
    return {"scale": scale, "axis": plain_axis(tickCount=ticks), "title": None}


def _depth_profile(profile: Profile, rows: Rows, theme: Theme) -> Spec:
    """Every block, with the seven depths named above, on their line and the noise floor."""
    top = max((*(row["procrustes"] for row in rows), profile.noise_floor))
    spots, y = places(profile), change_axis(top)
    x = block_axis("x", spots)
    points = alt.Chart().encode(x=unlabelled(x), y=alt.Y("procrustes:Q", **y))
    layers = [
        depth_names(depth_axis("x", spots, depth_labels(profile)), y),
        *_floor(profile, theme, y),
        *_line(theme, x, y),
        *_curve(points, theme, "procrustes", count=len(rows)),
    ]
    title = f"{_DISTANCE} by block (readout {profile.readout})"
    chart = titled(layers, title, about=counted(len(rows), "block"), height=260)
    data = {"blocks": rows, "line": _ols(profile)}
    return with_data(chart.resolve_axis(x="independent"), data)


def depth_labels(profile: Profile | ReadoutProfile) -> dict[int, str]:
    """What the seven depths are called, by the block that stands for them."""
    marks = seven(profile).items()
    return {index: ", ".join(map(percent, depths)) for index, depths in marks}


def depth_names(x: alt.X, y: Spec) -> alt.Chart:
    """A layer that draws nothing but the axis of the depths' names."""
    return alt.Chart().encode(x=x, y=alt.Y("procrustes:Q", **y)).mark_point(opacity=0, size=0)


def _floor(profile: Profile, theme: Theme, y: Spec) -> list[alt.Chart]:
    """A grey band from 0 to the noise floor, the whole width."""
    if profile.noise_floor <= 0:
        return []
    data = alt.InlineData(values=[{"floor": short(profile.noise_floor)}])
    band = alt.Chart(data).encode(y=alt.Y("floor:Q", **y), y2=alt.Y2Datum(0))
    return [band.mark_rect(color=theme.muted, opacity=0.18)]


def _line(theme: Theme, x: alt.X, y: Spec, *, data: str = "line") -> list[alt.Chart]:
    """The least-squares line of the seven depths, dashed, on the fan of its interval."""
    base = alt.Chart(alt.NamedData(name=data)).encode(x=x)
    fan = base.encode(x=unlabelled(x), y=alt.Y("low:Q", **y), y2="high:Q")
    line = base.encode(y=alt.Y("line:Q", **y))
    return [
        fan.mark_area(color=theme.series[1], opacity=0.16, clip=True),
        line.mark_line(color=theme.series[1], strokeDash=[6, 4], strokeWidth=1.5, clip=True),
    ]


def _curve(points: alt.Chart, theme: Theme, key: str, *, count: int) -> list[alt.Chart]:
    """The blocks as a line and points, filled at the seven depths."""
    colour = theme.series[0]
    title = MEASURES.get(key, _DISTANCE)
    tip = [alt.Tooltip("head:N", title="Block"), alt.Tooltip(f"{key}_tip:N", title=title)]
    told = points.encode(color=alt.value(colour), tooltip=tip)
    line = points.mark_line(strokeWidth=1.5, opacity=0.55, color=colour)
    return [line, dots(told, alt.value(colour), theme, mark="marked", many=count > 48)]


def _readout_chart(name: str, readout: ReadoutProfile, theme: Theme, *, top: float) -> Spec:
    """The profile under one readout, on the scale that all readouts share."""
    y, x = change_axis(top), block_axis("x", places(readout))
    points = alt.Chart().encode(x=x, y=alt.Y("procrustes:Q", **y))
    rows, line = _rows(readout), f"line-{name}"
    curve = _curve(points, theme, "procrustes", count=len(rows))
    layers = [*_line(theme, x, y, data=line), *curve]
    title = f"{name}: slope {number(readout.slope)}"
    chart = titled(
        layers, title, data=f"blocks-{name}", about=counted(len(rows), "block"), height=150
    )
    return with_data(chart, {f"blocks-{name}": rows, line: _ols(readout)})


def _measure_chart(rows: Rows, key: str, title: str, theme: Theme) -> Spec:
    y = change_axis(max(row[key] for row in rows))
    x = block_axis("x", Places(tuple((row["x"], row["x"]) for row in rows)))
    points = alt.Chart().encode(x=x, y=alt.Y(f"{key}:Q", **y))
    layers = _curve(points, theme, key, count=len(rows))
    return with_data(
        titled(layers, title, about=counted(len(rows), "block"), height=150), {"blocks": rows}
    )


def _width_chart(profile: Profile, theme: Theme) -> Spec:
    """The share of each of the seven depths, and what an even profile would give."""
    rows = [
        {
            "depth": percent(depth.relative),
            "share": short(share),
            "head": f"depth {percent(depth.relative)} · block {depth.index}",
            "share_tip": f"{share:.1%}",
        }
        for depth, share in zip(profile.depths, profile.width, strict=True)
    ]
    tip = [alt.Tooltip("head:N", title="Block"), alt.Tooltip("share_tip:N", title="Share")]
    y = {"axis": plain_axis(format=".0%"), "title": None}
    names = alt.Axis(labelAngle=0, grid=False, title="Relative depth")
    bars = alt.Chart().encode(
        x=alt.X("depth:N", sort=None, axis=names), y=alt.Y("share:Q", **y), tooltip=tip
    )
    even = alt.Chart(alt.InlineData(values=[{"even": short(1 / len(rows))}]))
    layers = [
        bars.mark_bar(color=theme.series[0], opacity=0.9),
        even.mark_rule(strokeDash=[4, 3], opacity=0.8).encode(y=alt.Y("even:Q", **y)),
    ]
    title = "Width: share of the CKA change"
    return with_data(titled(layers, title, data="width", height=150), {"width": rows})
