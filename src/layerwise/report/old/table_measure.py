"""A leaderboard as a table for a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from layerwise.measure.record import ArmResult, Measure
from layerwise.report.old.story_measure import (
    arm_blocks,
    gained,
    improvement_text,
    measure_headline,
    measure_reasons,
    place_text,
    rate_text,
    seeds_text,
    share_text,
    told_arms,
)
from layerwise.report.old.terminal import Room, Sized, tabled, warnings
from layerwise.report.old.text import counted, model_name, shown

__all__ = ["measure_table"]


def measure_table(measure: Measure, *, width: int | None = None) -> RenderableType:
    """The table of `measure` for `rich`: the verdict, and every arm, the best first.

    Args:
        measure: What is shown.
        width: Characters a line, where fewer than the console's are wanted.
    """
    return Sized(lambda room: _measure(measure, room), width)


def _measure(measure: Measure, room: Room) -> Iterator[RenderableType]:
    budget, name = measure.budget, shown(model_name(measure.model), limit=100)
    yield room.text(f"Rival placements of {name}", style="bold")
    about = f"{measure.data.examples:,} examples, {shown(measure.data.objective)}"
    yield room.text(f"on {shown(measure.data.source, limit=100)} ({about})", style="dim")
    yield room.text(
        f"{counted(budget.layers, 'block')} at rank {budget.rank}: "
        f"{budget.adapter_parameters:,} parameters, "
        f"{budget.steps:,} steps, {seeds_text(measure)}",
        style="dim",
    )
    yield from (Text(""), _leaderboard(measure, room), Text(""))
    yield room.text(measure_headline(measure), style="bold")
    for reason in measure_reasons(measure):
        yield room.text(reason)
    yield from warnings((), measure.notes, room)


def _leaderboard(measure: Measure, room: Room) -> RenderableType:
    """A line an arm; the fewer columns the narrower the terminal."""
    headings = ["arm", "place", gained(measure), "of all", "step", "rate", "blocks"]
    keep = [0, 1, 2, 3, 4, 5, 6] if room.width >= 96 else [0, 1, 2, 3, 4]
    keep = keep if room.width >= 64 else [0, 2]
    rows = [_row(arm, room) for arm in told_arms(measure)]
    return tabled([headings[k] for k in keep], [[row[k] for k in keep] for row in rows], room)


def _row(arm: ArmResult, room: Room) -> list[Text]:
    found = arm.outcome
    cells = [
        arm.name,
        place_text(arm),
        improvement_text(arm),
        share_text(found.kept if found else None),
        share_text(found.step_ratio if found else None),
        rate_text(arm.learning_rate),
        shown(arm_blocks(arm), limit=24),
    ]
    style = "bold" if arm.kind == "recommended" else ""
    return [room.text(cell, style=style) for cell in cells]
