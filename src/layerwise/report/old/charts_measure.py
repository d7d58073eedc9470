"""A leaderboard as Vega-Lite charts, and those as PNG and SVG files."""

from typing import Any

import altair as alt

from layerwise.measure.record import ArmResult, Measure, Outcome
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
from layerwise.report.old.story_measure import (
    KINDS,
    arm_blocks,
    gained,
    improvement_text,
    step_text,
    told_arms,
)
from layerwise.report.old.text import shown

__all__ = ["export_measure_charts", "measure_charts"]

_ROW = 20


def measure_charts(measure: Measure, *, theme: Theme = LIGHT) -> dict[str, Spec]:
    """Vega-Lite specifications by chart name: the leaderboard, and improvement by step time."""
    told = [(arm, arm.outcome) for arm in told_arms(measure) if arm.outcome]
    rows, seeds = [_row(*pair) for pair in told], _seed_rows(measure)
    # The copies of an arm would lie on it.
    once = [row for row, (arm, _) in zip(rows, told, strict=True) if arm.same_as is None]
    return {
        "leaderboard": _leaderboard(measure, rows, seeds, theme),
        "time": _time(measure, once, theme),
    }


def export_measure_charts(measure: Measure) -> dict[str, bytes]:
    """``chart-<name>.png`` and ``chart-<name>.svg`` of each chart, drawn without any network."""
    return exported(measure_charts(measure))


def _row(arm: ArmResult, found: Outcome) -> dict[str, Any]:
    low = found.improvement if found.low is None else found.low
    high = found.improvement if found.high is None else found.high
    ends = {"improvement": short(found.improvement), "low": short(low), "high": short(high)}
    told = {"arm": shown(arm.name), "kind": KINDS[arm.kind], "blocks": arm_blocks(arm)}
    tips = {"improvement_tip": improvement_text(arm), "step_tip": step_text(arm)}
    return ends | told | tips | {"seconds": short(found.seconds_per_step)}


def _seed_rows(measure: Measure) -> Rows:
    """Each trial's improvement; none for a single seed, which the mean already is."""
    if len(measure.seeds) < 2:
        return []
    return [
        {"arm": shown(arm.name), "improvement": short(made.improvement), "kind": KINDS[arm.kind]}
        for arm in told_arms(measure)
        for made in arm.trials
    ]


def _colour(theme: Theme) -> alt.Color:
    scale = alt.Scale(domain=list(KINDS.values()), range=list(theme.series[: len(KINDS)]))
    legend = alt.Legend(symbolType="circle", symbolOpacity=1, columns=3)
    return alt.Color("kind:N", scale=scale, legend=legend)


def _tips() -> list[alt.Tooltip]:
    titles = {
        "arm": "Arm",
        "kind": "What it is",
        "improvement_tip": "Improvement",
        "step_tip": "Step",
        "blocks": "Blocks",
    }
    return [alt.Tooltip(f"{key}:N", title=title) for key, title in titles.items()]


def _axis() -> dict[str, Any]:
    scale = alt.Scale(zero=True, nice=True)
    return {"axis": plain_axis(labelFlush=False, format=",~g"), "title": None, "scale": scale}


def _leaderboard(measure: Measure, rows: Rows, seeds: Rows, theme: Theme) -> Spec:
    """Each arm's improvement on its interval, single seeds pale, the best on top."""
    y = alt.Y(
        "arm:N",
        sort=[row["arm"] for row in rows],
        title=None,
        axis=alt.Axis(domain=False, ticks=False, labelPadding=8),
    )
    base = alt.Chart().encode(y=y, color=_colour(theme), tooltip=_tips())
    single = alt.Chart(alt.NamedData(name="seeds")).encode(
        y=y, x=alt.X("improvement:Q", **_axis()), color=_colour(theme)
    )
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}]))
    layers = [
        zero.mark_rule(opacity=0.8).encode(x=alt.X("zero:Q", **_axis())),
        *([single.mark_tick(opacity=0.5, thickness=1.5, size=9)] if seeds else []),
        base.encode(x=alt.X("low:Q", **_axis()), x2="high:Q").mark_rule(strokeWidth=2),
        base.encode(x=alt.X("improvement:Q", **_axis())).mark_point(
            filled=True, size=60, opacity=1
        ),
    ]
    title = f"Improvement ({gained(measure)}), with its 95 % interval"
    chart = titled(layers, title, data="arms", height=max(_ROW * len(rows), 60))
    return with_data(chart, {"arms": rows, "seeds": seeds})


def _time(measure: Measure, rows: Rows, theme: Theme) -> Spec:
    """Improvement by the time that a step takes."""
    x = alt.X(
        "seconds:Q",
        axis=plain_axis(format=",~g"),
        title="seconds a step",
        scale=alt.Scale(zero=True, nice=True),
    )
    y = alt.Y("improvement:Q", **_axis())
    base = alt.Chart().encode(x=x, y=y, color=_colour(theme), tooltip=_tips())
    layers = [base.mark_point(filled=True, size=60, opacity=1)]
    title = f"Improvement ({gained(measure)}) by step time"
    return with_data(titled(layers, title, data="arms", height=220), {"arms": rows})
