"""A fine-tuning run as a table for a terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from layerwise.report.old.terminal import Room
    from layerwise.tuning.record import TuneOutcome, TuneRecord

__all__ = ["tune_table"]


def tune_table(record: "TuneRecord", *, width: int | None = None) -> "RenderableType":
    """The table of `record` for `rich`: how the run went, and a line a layer group.

    Args:
        record: What is shown.
        width: Characters a line, where fewer than the console's are wanted.
    """
    from layerwise.report.old.terminal import Sized

    return Sized(lambda room: _tune(record, room), width)


def _tune(record: "TuneRecord", room: "Room") -> Iterator["RenderableType"]:
    from layerwise.report.old.story import number
    from layerwise.report.old.text import model_name, shown

    name, data = shown(model_name(record.model), limit=100), record.data
    yield room.text(f"{name} under {shown(record.condition)}", style="bold")
    about = f"{shown(data.objective)}, {record.outcome.examples:,} examples"
    yield room.text(f"on {shown(data.source, limit=100)} ({about})", style="dim")
    yield room.text("")
    yield _groups(record, room)
    yield room.text("")
    for line in _outcome(record.outcome):
        yield room.text(line, style="bold" if line.startswith("Loss") else "")
    if record.tau is not None:
        yield room.text(f"Equal-step asked a relative step of {number(record.tau)} of each group.")
    for note in record.notes:
        yield room.text(f"- note: {shown(note, limit=600)}", style="dim")


def _groups(record: "TuneRecord", room: "Room") -> "RenderableType":
    """A line a group; the fewer columns the narrower the terminal."""
    from layerwise.report.old.columns import number_style
    from layerwise.report.old.story import number
    from layerwise.report.old.terminal import bars, tabled
    from layerwise.report.old.text import shown

    groups = record.groups
    ratios = [group.step_ratio for group in groups]
    style, drawn = number_style(ratios), bars(ratios, 8, room)
    rows: list[list[str | Text]] = [
        [
            shown(name, limit=22),
            f"{group.parameters:,}",
            f"{group.trained:,}" if group.trained else "frozen",
            number(group.learning_rate),
            style.text(group.step_ratio),
            bar,
        ]
        for group, name, bar in zip(groups, _ends([g.name for g in groups]), drawn, strict=True)
    ]
    step = f"step size {style.suffix}".rstrip()
    headings = ["group", "parameters", "trained", "rate", step, ""]
    kept = [0, 1, 2, 3, 4, 5] if room.width >= 80 else [0, 2, 4]
    return tabled([headings[k] for k in kept], [[row[k] for k in kept] for row in rows], room)


def _ends(names: list[str]) -> list[str]:
    """The last two parts of each dotted name, block number and all, if they tell all apart."""
    ends = [".".join(name.split(".")[-2:]) for name in names]
    return ends if len(set(ends)) == len(names) else names


def _outcome(outcome: "TuneOutcome") -> list[str]:
    """How the run went, in lines."""
    from layerwise.report.old.columns import quantity
    from layerwise.report.old.story import number

    loss = f"Loss {number(outcome.first_loss)} → {number(outcome.loss)}"
    if outcome.eval_loss is not None:
        before = outcome.first_eval_loss
        start = "" if before is None else f"{number(before)} → "
        loss += f", held out {start}{number(outcome.eval_loss)}"
    processes = f" on {outcome.processes} processes" if outcome.processes > 1 else ""
    went = f", from step {outcome.resumed_from}" if outcome.resumed_from else ""
    memory = quantity(outcome.peak_memory_bytes, "B")
    return [
        f"{loss}.",
        *_quality(outcome),
        (
            f"{outcome.steps:,} steps{went} in {quantity(outcome.seconds, 's')}{processes}, "
            f"peak memory {memory}."
        ),
    ]


def _quality(outcome: "TuneOutcome") -> list[str]:
    """How well classes are told, in a line where there are any."""
    parts = []
    for name, value in outcome.quality.items():
        start = outcome.first_quality.get(name)
        told = name.replace("_", "-").replace("f1", "F1")
        parts.append(f"{told} {'' if start is None else f'{start:.3f} → '}{value:.3f}")
    line = ", ".join(parts)
    return [f"{line[0].upper()}{line[1:]}, held out."] if line else []
