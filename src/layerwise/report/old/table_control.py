"""A control as a table for a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from layerwise.profile.record import Control, ControlRun
from layerwise.report.old.story import (
    CONDITIONS,
    condition_profiles,
    control_headline,
    control_reasons,
    every_note,
    every_untrained,
    mean_changes,
    number,
    slope_text,
    with_interval,
)
from layerwise.report.old.table_profile import warnings
from layerwise.report.old.terminal import Room, Sized, spark, tabled
from layerwise.report.old.text import model_name, shown

__all__ = ["control_table"]

_COLOURS = {"standard": "blue", "equal_step": "yellow"}


def control_table(control: Control, *, width: int | None = None) -> RenderableType:
    """The table of `control` for `rich`: the verdict, both profiles, and every seed.

    Args:
        control: What is shown.
        width: Characters a line, where fewer than the console's are wanted.
    """
    return Sized(lambda room: _control(control, room), width)


def _control(control: Control, room: Room) -> Iterator[RenderableType]:
    name = shown(model_name(control.standard.before), limit=100)
    yield room.text(f"Control of {name}: standard against equal-step", style="bold")
    if control.data:
        about = f"{control.data.examples:,} examples, {shown(control.data.objective)}"
        yield room.text(f"on {shown(control.data.source, limit=100)} ({about})", style="dim")
    yield Text("")
    means = {c: mean_changes(condition_profiles(control, c)).values() for c in CONDITIONS}
    most = max(change for changes in means.values() for change in changes)
    for condition, title in CONDITIONS.items():
        changes = list(means[condition])
        yield spark(title, changes, room, most=most, style=_COLOURS[condition])
    yield from (Text(""), _runs(control, room), Text(""))
    yield room.text(control_headline(control), style="bold")
    for reason in control_reasons(control):
        yield room.text(reason)
    yield from warnings(every_untrained(control), every_note(control), room)


def _runs(control: Control, room: Room) -> RenderableType:
    """A line a seed, and one for all of them; the fewer columns the narrower the terminal."""
    intervals = room.width >= 76
    headings = ["seed", "standard", "equal-step", "ratio", "tau", "verdict"]
    rows = [_run(run, intervals=intervals) for run in control.runs]
    if len(rows) > 1:
        found = [control.slopes[condition] for condition in CONDITIONS]
        told = [
            with_interval(s.slope, s.low, s.high) if intervals else number(s.slope) for s in found
        ]
        rows.append(["all", *told, number(control.ratio), number(control.tau), control.verdict])
    kept = [0, 1, 2, 3, 4, 5] if room.width >= 56 else [0, 1, 2]
    return tabled([headings[k] for k in kept], [[row[k] for k in kept] for row in rows], room)


def _run(run: ControlRun, *, intervals: bool) -> list[str]:
    found = (run.standard, run.equal_step)
    told = [slope_text(p) if intervals else number(p.slope) for p in found]
    return [str(run.seed), *told, number(run.ratio), number(run.tau), run.verdict]
