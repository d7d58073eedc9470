"""Cards, coverage and comparisons as tables for a terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from layerwise.card.record import LayerCard, Measurement
from layerwise.placement.compare import Comparison
from layerwise.placement.record import Placement
from layerwise.placement.verify import Coverage
from layerwise.report.columns import Column, NumberStyle, card_columns, number_style
from layerwise.report.story_measure import gained
from layerwise.report.story_measured import (
    interval_text,
    measured_text,
    regime_cells,
    told_measured,
)
from layerwise.report.terminal import Room, Sized, aligned, bars, plain_table, tabled
from layerwise.report.text import (
    adapted_rows,
    headline,
    model_name,
    shown,
    stack_labels,
)

__all__ = ["card_table", "compare_table", "coverage_table"]

_BAR_WIDTHS = {"residual_norm": 8, "gain": 5}


def card_table(
    card: LayerCard, placement: Placement | None = None, *, width: int | None = None
) -> RenderableType:
    """The table of `card` for `rich`: a line a block, then the advice and what is missing.

    Args:
        card: What is shown.
        placement: Marked in the table; without one, the card's advice is.
        width: Characters a line, where fewer than the console's are wanted; columns that do not
            fit are left out, and named below.

    Raises:
        PlacementError: The placement names a block that the card does not have.
    """
    adapted = frozenset(adapted_rows(card, placement))
    return Sized(lambda room: _card(card, adapted, room), width)


def coverage_table(coverage: Coverage, *, width: int | None = None) -> RenderableType:
    """Which target of which block got an adapter: a line a target, a sign a block."""
    return Sized(lambda room: _coverage(coverage, room), width)


def compare_table(comparison: Comparison, *, width: int | None = None) -> RenderableType:
    """How the rankings of blocks agree between each two cards of one model."""
    return Sized(lambda room: _comparison(comparison, room), width)


# --- The card ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """A column written out: its heading on two lines, and a cell a block, all of one width."""

    key: str
    heading: tuple[Text, Text]
    cells: tuple[Text, ...]

    @property
    def width(self) -> int:
        """Characters it takes, with the space around it."""
        return max(text.cell_len for text in (*self.heading, *self.cells)) + 2


def _card(card: LayerCard, adapted: frozenset[int], room: Room) -> Iterator[RenderableType]:
    data = card.data
    yield room.text(f"Layer Card of {shown(model_name(card.model), limit=100)}", style="bold")
    about = f"{shown(data.objective)}, {data.examples:,} examples, {data.tokens:,} tokens"
    yield room.text(f"on {shown(data.source, limit=100)} ({about})", style="dim")
    block = _block_column(card, adapted, room)
    columns = [_written(c, card, room) for c in card_columns() if _present(c, card)]
    kept = _fitting(columns, room.width - block.width)
    yield from _tables(card, [block, *(c for c in columns if c.key in kept)], adapted, room)
    left = [column.key for column in columns if column.key not in kept]
    if left:
        yield room.text(f"Too wide for this terminal: {', '.join(left)}.", style="dim")
    for measured in told_measured(card):
        yield from _performance(card, measured, adapted, room)
    yield from _summary(card, room)


def _performance(
    card: LayerCard, measured: Measurement, adapted: frozenset[int], room: Room
) -> Iterator[RenderableType]:
    """What placements were found to do when they were fine-tuned."""
    yield room.text(f"Fine-tuned {measured_text(card, measured)}", style="bold")
    yield from (Text(""), _regimes(card, measured, adapted, room), Text(""))
    yield from (room.text(interval_text(measured), style="dim"), Text(""))


def _regimes(
    card: LayerCard, measured: Measurement, adapted: frozenset[int], room: Room
) -> RenderableType:
    """A line a regime, the best first; the fewer columns the narrower the terminal."""
    headings = ["regime", gained(measured), "of all", "step", "memory", "blocks"]
    keep = range(6) if room.width >= 96 else range(4) if room.width >= 64 else range(2)
    rows = []
    for regime in measured.regimes:
        cells = [shown(regime.name), *regime_cells(card, regime)]
        style = "bold" if adapted == frozenset(regime.layers) else ""
        rows.append([room.text(cells[k], style=style) for k in keep])
    return tabled([headings[k] for k in keep], rows, room)


def _present(column: Column, card: LayerCard) -> bool:
    return any(column.value(layer) is not None for layer in card.layers)


def _block_column(card: LayerCard, adapted: frozenset[int], room: Room) -> _Shown:
    signs = ["●" if row in adapted else " " for row in range(len(card.layers))]
    cells = [
        room.text(f"{sign} {layer.index:>3}")
        for sign, layer in zip(signs, card.layers, strict=True)
    ]
    return _Shown("block", (Text("block"), Text("")), tuple(cells))


def _written(column: Column, card: LayerCard, room: Room) -> _Shown:
    values = [column.value(layer) for layer in card.layers]
    style = number_style(values)
    parts = [aligned([style.text(value) for value in values], room)]
    if column.key == "residual_norm":
        ends = [_ends(column.interval(layer), style) for layer in card.layers]
        parts.append(aligned(ends, room, style="dim"))
    if column.key in _BAR_WIDTHS:
        parts.append(bars(values, _BAR_WIDTHS[column.key], room))
    cells = tuple(Text(" ").join(cell) for cell in zip(*parts, strict=True))
    unit = " ".join(part for part in (style.suffix, column.unit) if part)
    return _Shown(column.key, (room.text(column.short), room.text(unit)), cells)


def _ends(ends: tuple[float, float] | None, style: NumberStyle) -> str:
    return f"{style.text(ends[0])}–{style.text(ends[1])}" if ends else ""


def _fitting(columns: Sequence[_Shown], room: int) -> set[str]:
    """The keys that fit into `room` characters, the most telling first; at least one."""
    widths = {column.key: column.width for column in columns}
    ranked = sorted(card_columns(), key=lambda column: -column.importance)
    kept: set[str] = set()
    for key in (column.key for column in ranked if column.key in widths):
        if kept and room < widths[key]:
            break
        kept.add(key)
        room -= widths[key]
    return kept


def _tables(
    card: LayerCard, columns: Sequence[_Shown], adapted: frozenset[int], room: Room
) -> Iterator[RenderableType]:
    """One table a stack, named where there is more than one."""
    labels = stack_labels(card.model)
    for stack, rows in groupby(range(len(card.layers)), key=lambda r: card.layers[r].stack):
        yield Text("")
        if len(labels) > 1:
            yield room.text(labels[stack], style="bold")
        table = plain_table(room)
        for column in columns:
            heading = Text("\n").join(column.heading)
            table.add_column(heading, justify="left" if column.key in _BAR_WIDTHS else "right")
        for row in rows:
            style = "bold" if row in adapted else ""
            table.add_row(*(column.cells[row] for column in columns), style=style)
        yield table
    yield Text("")


def _summary(card: LayerCard, room: Room) -> Iterator[Text]:
    yield room.text(headline(card), style="bold")
    advice = card.advice
    if advice:
        yield room.text(shown(advice.reason, limit=800))
        for remedy in advice.remedies:
            yield room.text(f"- surer: {shown(remedy, limit=400)}")
    for key, reason in card.absent.items():
        yield room.text(f"- not measured: {shown(key)} ({shown(reason, limit=400)})", style="dim")
    for note in card.capture.notes:
        yield room.text(f"- note: {shown(note, limit=600)}", style="dim")


# --- Coverage and comparison ------------------------------------------------------------------


def _coverage(coverage: Coverage, room: Room) -> Iterator[RenderableType]:
    names = [shown(target, limit=40) for target in coverage.targets]
    label = max((cell_len(name) for name in names), default=0)
    stacks = [block.stack for block in coverage.blocks]
    for stack, rows in groupby(range(len(stacks)), key=lambda row: stacks[row]):
        yield room.text(shown(stack, limit=room.width), style="bold")
        yield from _strips(coverage, names, list(rows), room, label=label)
    done = coverage.verified
    yield room.text(
        f"{done.matched:,} of {done.expected:,} modules adapted as meant, "
        f"{coverage.adapter_parameters:,} trainable parameters"
    )


def _strips(
    coverage: Coverage, names: Sequence[str], rows: Sequence[int], room: Room, *, label: int
) -> Iterator[Text]:
    """Lines of one sign a block under a ruler of tens, folded where the terminal ends."""
    total = f"{len(rows)} of {len(rows)}"
    fold = max((room.width - label - len(total) - 4) // 10 * 10, 10)
    for start in range(0, len(rows), fold):
        part = rows[start : start + fold]
        ruler = "".join(f"{coverage.blocks[row].index:<10}" for row in part[::10])
        yield room.text(f"{'':{label}}  {ruler.rstrip()}", style="dim")
        for target, name in enumerate(names):
            signs = "".join("●" if coverage.matrix[row][target] else "·" for row in part)
            count = sum(coverage.matrix[row][target] for row in part)
            pad = " " * (label - cell_len(name))
            yield room.text(f"{name}{pad}  {signs}  {count} of {len(part)}")


def _comparison(comparison: Comparison, room: Room) -> Iterator[RenderableType]:
    yield room.text(f"Cards of {shown(comparison.model, limit=100)}", style="bold")
    for number, data in enumerate(comparison.data, start=1):
        yield room.text(f"{number}  {shown(data, limit=max(room.width - 4, 20))}")
    table = plain_table(room)
    for heading in ("cards", "Spearman", "usable"):
        table.add_column(heading, justify="right")
    for pair in comparison.pairs:
        verdict = "yes" if pair.usable else "no"
        table.add_row(f"{pair.first + 1}, {pair.second + 1}", f"{pair.spearman:.3f}", verdict)
    yield from (Text(""), table, Text(""))
    yield room.text(
        "One card may stand for another where the rankings of blocks by residual norm agree at "
        f"{comparison.threshold:g} or more."
    )
