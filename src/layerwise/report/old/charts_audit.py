"""The size of an adapter's update, and what it does on real inputs, by block."""

from collections.abc import Mapping
from typing import Any

import altair as alt

from layerwise.profile.audit_record import Audit, BlockAudit
from layerwise.profile.record import Profile
from layerwise.report.old.drawing import (
    Places,
    Rows,
    Spec,
    Theme,
    block_axis,
    plain_axis,
    short,
    titled,
    with_data,
)
from layerwise.report.old.story_audit import part
from layerwise.report.old.text import stack_labels

__all__ = ["audit_charts"]

_SHARES = {"relative_norm": "update over weights", "output_change": "change of outputs"}


def audit_charts(profile: Profile, theme: Theme) -> dict[str, Spec]:
    """Vega-Lite specifications by chart name; none without an audit."""
    if profile.audit is None or not profile.audit.blocks:
        return {}
    made = {}
    x, labels = _positions(profile), stack_labels(profile.before)
    sizes = _sizes(profile.audit, x, labels)
    if sizes:
        made["audit-size"] = _size_chart(sizes, _places(x), theme)
    used = [_used(block, x, labels) for block in profile.audit.blocks]
    made["audit-rank"] = _rank_chart(used, _places(x), theme)
    return made


def _positions(profile: Profile) -> Mapping[tuple[str, int], int]:
    """Where each block of the model stands on the axis; a gap parts the stacks."""
    found: dict[tuple[str, int], int] = {}
    for number, stack in enumerate(profile.before.stacks):
        first = len(found) + number
        found |= {(stack.name, index): first + index for index in range(stack.blocks)}
    return found


def _places(x: Mapping[tuple[str, int], int]) -> Places:
    return Places(tuple((place, index) for (_, index), place in x.items()))


def _head(block: BlockAudit, labels: Mapping[str, str]) -> str:
    stack = f"{labels[block.stack]} " if len(labels) > 1 else ""
    return f"{stack}block {block.index}" + (" · on the card" if block.carded else "")


def _sizes(audit: Audit, x: Mapping[tuple[str, int], int], labels: Mapping[str, str]) -> Rows:
    """A row a block and share."""
    rows: Rows = []
    for block in audit.blocks:
        for key, title in _SHARES.items():
            value = getattr(block, key)
            if value is not None:
                spot: dict[str, Any] = {"x": x[block.stack, block.index], "of": title}
                spot |= {"share": short(value), "share_tip": part(value)}
                rows.append(spot | {"head": _head(block, labels), "stack": block.stack})
    return rows


def _size_chart(rows: Rows, places: Places, theme: Theme) -> Spec:
    scale = alt.Scale(domain=list(_SHARES.values()), range=list(theme.series[:2]))
    tip = [
        alt.Tooltip("head:N", title="Block"),
        alt.Tooltip("of:N", title="What"),
        alt.Tooltip("share_tip:N", title="Share"),
    ]
    points = alt.Chart().encode(
        x=block_axis("x", places),
        y=alt.Y("share:Q", axis=plain_axis(format="~%"), scale=alt.Scale(domainMin=0), title=None),
        color=alt.Color("of:N", scale=scale, legend=alt.Legend()),
        detail="stack:N",
        tooltip=tip,
    )
    layers = [
        points.mark_line(strokeWidth=1.5, opacity=0.55),
        points.mark_point(size=36, filled=True, opacity=1),
    ]
    title = "The update by block: of the weights, and of the outputs on the probes"
    return with_data(titled(layers, title, data="audit-size", height=200), {"audit-size": rows})


def _used(
    block: BlockAudit, x: Mapping[tuple[str, int], int], labels: Mapping[str, str]
) -> dict[str, Any]:
    share = block.energy_rank_90 / block.rank if block.rank else 0.0
    place = x[block.stack, block.index]
    told = f"{block.energy_rank_90} of {block.rank}"
    spot = {"x": place, "start": place - 0.38, "end": place + 0.38, "share": short(share)}
    return {**spot, "share_tip": told, "head": _head(block, labels), "carded": bool(block.carded)}


def _rank_chart(rows: Rows, places: Places, theme: Theme) -> Spec:
    """A bar a block; those that a card would have taken in the second colour."""
    tip = [alt.Tooltip("head:N", title="Block"), alt.Tooltip("share_tip:N", title="Directions")]
    axis = plain_axis(format="~%")
    colour = alt.condition("datum.carded", alt.value(theme.series[1]), alt.value(theme.series[0]))
    spot = alt.Chart().encode(x=block_axis("x", places))
    bars = alt.Chart().encode(
        x=alt.X("start:Q"),
        x2="end:Q",
        y=alt.Y("share:Q", axis=axis, scale=alt.Scale(domain=[0, 1]), title=None),
        y2=alt.Y2Datum(0),
        color=colour,
        tooltip=tip,
    )
    layers = [spot.mark_point(opacity=0, size=0), bars.mark_rect(opacity=0.9)]
    title = "Rank that holds 90 % of the update, of the rank there is"
    return with_data(titled(layers, title, data="audit-rank", height=150), {"audit-rank": rows})
