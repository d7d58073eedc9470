"""Distances between objectives as a table for a terminal."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from layerwise.distance.record import Distance, ObjectiveDistance
from layerwise.report.old.story import number
from layerwise.report.old.terminal import Room, Sized, bars, tabled
from layerwise.report.old.text import model_name, shown

__all__ = ["distance_table"]

_DISTANCES = {
    "procrustes": "Procrustes",
    "cosine": "cosine",
    "cosine_128": "at 128",
    "cosine_32": "at 32",
    "pearson": "Pearson",
    "fisher": "Fisher",
}
_STATISTICS = {"mean_norm": "mean norm", "coherence": "coherence", "nonzero": "nonzero"}


def distance_table(distance: Distance, *, width: int | None = None) -> RenderableType:
    """The table of `distance` for `rich`: a line an objective, then how surely they are ranked.

    Args:
        distance: What is shown.
        width: Characters a line, where fewer than the console's are wanted.
    """
    return Sized(lambda room: _distance(distance, room), width)


def _distance(distance: Distance, room: Room) -> Iterator[RenderableType]:
    name = shown(model_name(distance.model), limit=100)
    yield room.text(f"Distances from {distance.reference} in {name}", style="bold")
    about = f"{distance.data.examples:,} examples, gradients of {distance.settings.width:,}"
    yield room.text(f"on {shown(distance.data.source, limit=100)} ({about})", style="dim")
    yield from (Text(""), _table(distance, _DISTANCES, room), Text(""))
    yield from (_table(distance, _STATISTICS, room), Text(""))
    yield room.text(_ranked(distance), style="bold")
    for note in distance.notes:
        yield room.text(f"- note: {shown(note, limit=600)}", style="dim")


def _table(distance: Distance, columns: dict[str, str], room: Room) -> RenderableType:
    """A line an objective, nearest first; the fewer columns the narrower the terminal."""
    rows = sorted(distance.objectives, key=lambda o: o.procrustes)
    kept = list(columns)[: 6 if room.width >= 76 else 2 if room.width >= 40 else 1]
    headings = ["objective", *(columns[key] for key in kept)]
    cells: list[list[str | Text]] = [[o.name, *(_cell(o, key) for key in kept)] for o in rows]
    if room.width >= 90:
        headings.append("")
        drawn = bars([getattr(o, kept[0]) for o in rows], 8, room)
        cells = [[*row, bar] for row, bar in zip(cells, drawn, strict=True)]
    return tabled(headings, cells, room)


def _cell(objective: ObjectiveDistance, key: str) -> str:
    """A number with three digits; distances to the fourth decimal, so that they line up."""
    value: float = getattr(objective, key)
    return number(value) if key in _STATISTICS else f"{value:.4f}"


def _ranked(distance: Distance) -> str:
    """How alike the halves of the rows rank the objectives, in a sentence."""
    found = distance.agreement
    if not found:
        return "Too few objectives to rank them by each half of the examples."
    told = ", ".join(f"{found[key]:.2f} by {_DISTANCES[key]}" for key in ("procrustes", "cosine"))
    return f"Agreement of both halves of the examples in ranking them: Spearman {told}."
