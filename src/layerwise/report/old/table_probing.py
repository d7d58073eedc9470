"""What probes read at each depth, and what erasing does there, as tables for a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from layerwise.probing.record import ErasedDepth, Erasure, ProbedDepth, Probing, TextInfo
from layerwise.report.old.story import percent
from layerwise.report.old.terminal import Room, Sized, bars, tabled
from layerwise.report.old.text import model_name, shown

__all__ = ["erasure_table", "probing_table"]


def probing_table(probing: Probing, *, width: int | None = None) -> RenderableType:
    """The table of `probing` for `rich`: a line a depth, then where the classes can be read.

    Args:
        probing: What is shown.
        width: Characters a line, where fewer than the console's are wanted.
    """
    return Sized(lambda room: _probing(probing, room), width)


def erasure_table(erasure: Erasure, *, width: int | None = None) -> RenderableType:
    """The table of `erasure` for `rich`: a line a depth, then where erasing tells most.

    Args:
        erasure: What is shown.
        width: Characters a line, where fewer than the console's are wanted.
    """
    return Sized(lambda room: _erasure(erasure, room), width)


def _probing(probing: Probing, room: Room) -> Iterator[RenderableType]:
    name = shown(model_name(probing.model), limit=100)
    yield room.text(f"What can be read from the depths of {name}", style="bold")
    sides = [sum(getattr(c, side) for c in probing.classes) for side in ("train", "test")]
    counted = (
        f"{len(probing.classes)} classes, {sides[0]:,} examples to train, {sides[1]:,} to judge"
    )
    yield _about(probing.data, f"{counted}, readout {probing.readout}", room)
    yield from (Text(""), _accuracies(probing.depths, room), Text(""))
    for line in _read(probing):
        yield room.text(line, style="bold")
    told = f"Always naming the commonest class is right in {percent(probing.majority)}."
    yield room.text(told)
    yield from _notes(probing.notes, room)


def _about(data: TextInfo, told: str, room: Room) -> RenderableType:
    return room.text(f"on {shown(data.source, limit=100)} ({told})", style="dim")


def _notes(notes: Sequence[str], room: Room) -> Iterator[RenderableType]:
    for note in notes:
        yield room.text(f"- note: {shown(note, limit=600)}", style="dim")


def _accuracies(depths: Sequence[ProbedDepth], room: Room) -> RenderableType:
    wide = room.width >= 60
    headings = ["block", "linear", "MLP", *(["linear, 95 % interval", ""] if wide else [])]
    drawn = bars([depth.linear.accuracy for depth in depths], 10, room)
    rows: list[list[str | Text]] = []
    for depth, bar in zip(depths, drawn, strict=True):
        linear = depth.linear
        cells = [str(depth.index), f"{linear.accuracy:.3f}", f"{depth.mlp.accuracy:.3f}"]
        rows.append([*cells, f"{linear.low:.3f} to {linear.high:.3f}", bar] if wide else [*cells])
    return tabled(headings, rows, room, left=len(headings) - 1 if wide else len(headings))


def _read(probing: Probing) -> Iterator[str]:
    """For each probe, where it reads best, and from where on it does about as well."""
    for name, title in (("linear", "A linear probe"), ("mlp", "An MLP")):
        best = max(probing.depths, key=lambda depth: float(getattr(depth, name).accuracy))
        found = getattr(best, name)
        first = next(d for d in probing.depths if getattr(d, name).accuracy >= found.low)
        early = f", and first within its interval at block {first.index}" if first != best else ""
        yield f"{title} is right in {percent(found.accuracy)} at block {best.index}{early}."


def _erasure(erasure: Erasure, room: Room) -> Iterator[RenderableType]:
    name = shown(model_name(erasure.model), limit=100)
    yield room.text(f"Erasing a concept from the depths of {name}", style="bold")
    folds = f"{erasure.settings.folds} folds, {erasure.settings.draws} random directions in each"
    yield _about(erasure.data, f"{erasure.pairs:,} pairs, {folds}, readout {erasure.readout}", room)
    yield from (Text(""), _effects(erasure.depths, room), Text(""))
    yield room.text(_most(erasure), style="bold")
    yield from _notes(erasure.notes, room)


def _effects(depths: Sequence[ErasedDepth], room: Room) -> RenderableType:
    """A line a depth: effects in percent of the distance between the members of a pair."""
    kept = 7 if room.width >= 84 else 5 if room.width >= 56 else 3
    headings = ["block", "effect", "control", "margin", "median", "told apart", "energy"][:kept]
    drawn = bars([depth.effect for depth in depths], 8, room)
    rows: list[list[str | Text]] = []
    for depth, bar in zip(depths, drawn, strict=True):
        margin = f"{_share(depth.margin)} ({_share(depth.margin_low)}, {_share(depth.margin_high)})"
        cells = [str(depth.index), _share(depth.effect), _share(depth.control), margin]
        cells += [_share(depth.effect_median), _share(depth.ordered), _share(depth.energy)]
        rows.append([*cells[:kept], *([bar] if kept == 7 else [])])
    if kept == 7:
        headings.append("")
    return tabled(headings, rows, room, left=len(headings) - 1 if kept == 7 else len(headings))


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _most(erasure: Erasure) -> str:
    """Where erasing tells most beyond the control, in a sentence."""
    best = max(erasure.depths, key=lambda depth: depth.margin)
    if best.margin_low <= 0.0:
        return "At no depth does erasing the concept tell more than erasing a random direction."
    sure = sum(depth.margin_low > 0.0 for depth in erasure.depths)
    return (
        f"Erasing the concept tells most at block {best.index}: pairs move together by "
        f"{_share(best.effect)}, by {_share(best.control)} under a random direction; surely more "
        f"at {sure} of {len(erasure.depths)} depths."
    )
