"""An analysis of many runs as a summary for a terminal."""

from collections.abc import Iterator
from statistics import fmean

from rich.console import RenderableType
from rich.text import Text

from layerwise.analysis.names import FIVE
from layerwise.analysis.record import Analysis
from layerwise.report.old.story_analysis import (
    DISTANCE_NAMES,
    METRIC_NAMES,
    absences,
    analysis_headline,
    analysis_reasons,
    analysis_title,
    condition_name,
    fixed,
    main_metric,
    run_name,
    seeds_of,
)
from layerwise.report.old.terminal import Room, Sized, sparkline, tabled, warnings
from layerwise.report.old.text import counted, shown

__all__ = ["analysis_table"]

_NAMED = 12


def analysis_table(analysis: Analysis, *, width: int | None = None) -> RenderableType:
    """The summary of `analysis` for `rich`: signs, a line a model, what stands out, the words.

    Args:
        analysis: What is shown.
        width: Characters a line, where fewer than the console's are wanted.
    """
    return Sized(lambda room: _analysis(analysis, room), width)


def _analysis(analysis: Analysis, room: Room) -> Iterator[RenderableType]:
    runs = sum(row.runs for row in analysis.models)
    yield room.text(f"Analysis of {analysis_title(analysis)}", style="bold")
    yield room.text(
        f"{counted(runs, 'run')}, {counted(len(analysis.models), 'model')}", style="dim"
    )
    yield from (Text(""), _shares(analysis, room), Text(""), _models(analysis, room), Text(""))
    yield room.text(analysis_headline(analysis), style="bold")
    for reason in analysis_reasons(analysis):
        yield room.text(reason)
    yield from _outliers(analysis, room)
    for part, reason in absences(analysis):
        yield room.text(f"- not here: {part} ({shown(reason, limit=300)})", style="dim")
    yield from warnings((), analysis.notes, room)


def _shares(analysis: Analysis, room: Room) -> RenderableType:
    rows = [
        [
            condition_name(row.conditions),
            row.metric,
            *(f"{n:,}" for n in (row.runs, row.positive, row.negative, row.zero)),
        ]
        for row in analysis.shares
    ]
    headings = ["conditions", "metric", "runs", "positive", "negative", "zero"]
    kept = [0, 1, 2, 3, 4, 5] if room.width >= 64 else [0, 1, 3, 4]
    return tabled([headings[k] for k in kept], [[row[k] for k in kept] for row in rows], room)


def _models(analysis: Analysis, room: Room) -> RenderableType:
    """A line a model: its mean slope, its width, and how slope goes with distance."""
    metric = main_metric(analysis)
    widths = {row.model: row.shares for row in analysis.widths}
    slopes = _mean_slopes(analysis, metric)
    rhos = {
        (row.model, row.distance): row.rho for row in analysis.concordance if row.metric == metric
    }
    rows: list[list[str | Text]] = [
        [
            shown(row.model, limit=max(room.width // 3, 12)),
            shown(row.block, limit=12),
            fixed(slopes.get(row.model)),
            _width(widths.get(row.model, ()), room),
            *(fixed(rhos.get((row.model, d)), digits=2) for d in DISTANCE_NAMES),
        ]
        for row in analysis.models
    ]
    headings = ["model", "block", "mean slope", "width", "rho Procr.", "rho cosine"]
    kept = [0, 1, 2, 3, 4, 5] if room.width >= 78 else [0, 2, 3] if room.width >= 44 else [0, 2]
    return tabled([headings[k] for k in kept], [[row[k] for k in kept] for row in rows], room)


def _width(shares: tuple[float, ...], room: Room) -> str | Text:
    """The seven shares as levels."""
    return sparkline(shares, len(shares), room, most=max(shares)) if shares else "–"


def _mean_slopes(analysis: Analysis, metric: str) -> dict[str, float]:
    """The mean of each model's slopes under the five standard conditions."""
    found: dict[str, list[float]] = {}
    for row in analysis.mean_slopes:
        if row.metric == metric and row.condition in FIVE:
            found.setdefault(row.model, []).append(row.slope)
    return {model: fmean(slopes) for model, slopes in found.items()}


def _outliers(analysis: Analysis, room: Room) -> Iterator[RenderableType]:
    """The runs whose metrics differ in sign, and the anomalies, by name."""
    metric, seeded = main_metric(analysis), len(seeds_of(analysis)) > 1
    lines = [
        f"{run_name(row, seeded=seeded)}: Procrustes {fixed(row.procrustes)}, CKA {fixed(row.cka)}"
        for row in analysis.disagreements
    ]
    yield from _named("The metrics differ in sign in", lines, room)
    points = [
        f"{shown(p.model, limit=60)}, {shown(p.objective, limit=40)}, by "
        f"{DISTANCE_NAMES[p.distance]}: {fixed(p.residual, digits=2)}"
        for p in analysis.anomalies
        if p.metric == metric
    ]
    sd = f"{analysis.settings.threshold:g} residual sd"
    yield from _named(f"Beyond {sd} of slope ({METRIC_NAMES[metric]}) on distance", points, room)


def _named(heading: str, lines: list[str], room: Room) -> Iterator[RenderableType]:
    if not lines:
        return
    yield from (Text(""), room.text(f"{heading}:"))
    for line in lines[:_NAMED]:
        yield room.text(f"  {line}")
    if len(lines) > _NAMED:
        yield room.text(f"  and {len(lines) - _NAMED:,} more")
