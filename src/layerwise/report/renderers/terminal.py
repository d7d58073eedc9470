"""Blocks on a terminal of any width, colour or encoding.

All text becomes `rich.text.Text`, in which square brackets are only brackets.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text as Line

from layerwise.report.blocks import (
    Block,
    Chart,
    Code,
    Document,
    Facts,
    Figures,
    Heading,
    Links,
    Note,
    Strip,
    Table,
    Text,
    Verdict,
)
from layerwise.report.numbers import number
from layerwise.report.renderers.cells import ColumnText, drawn_columns, written
from layerwise.report.words import shown, visible

__all__ = ["Room", "RoomRenderable", "printed", "sparkline", "terminal"]

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVELS = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS = "_.-:=+*#"
_RULED = box.Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-", strict=True))
_ASCII = str.maketrans(
    {"●": "*", "·": ".", "–": "-", "…": "...", "µ": "u", "→": "->", "�": "?", **_SUPERSCRIPTS}
)
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")
_BAR = 8
_LONGEST = 32
_NAMED = 8


@dataclass(frozen=True)
class Room:
    """What a terminal can take: characters a line, and whether they must be ASCII."""

    width: int
    ascii_only: bool

    def text(self, text: str, *, style: str = "") -> Line:
        """Return `text` without markup, in characters that the terminal's encoding has."""
        text = visible(text)
        if self.ascii_only:
            plain = text.replace("×10", "x10^").translate(_ASCII)
            text = plain.encode("ascii", "replace").decode()
        return Line(text, style=style)


@dataclass(frozen=True)
class RoomRenderable:
    """A renderable that is made when the room for it is known.

    Attributes:
        make: Gives its parts.
        width: Characters a line, where fewer than the console's are wanted.
    """

    make: Callable[[Room], Iterator[RenderableType]]
    width: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, self.width or options.max_width)
        sized = options.update(width=width)
        for part in self.make(Room(width, options.ascii_only)):
            yield from console.render(part, sized)


def terminal(document: Document, *, width: int | None = None) -> RenderableType:
    """Return `document` for `rich`: its tables and strips, then verdicts and notes.

    What is concluded comes last, where the eye is when a command ends. Sections of detail and
    charts are left to the page.

    Args:
        document: What is shown.
        width: Characters a line, where fewer than the console's are wanted.
    """
    return RoomRenderable(lambda room: _document(document, room), width)


def printed(document: Document, *, width: int | None = None) -> str:
    """Return what `terminal` shows, as text without colours."""
    console = Console(file=io.StringIO(), width=width, no_color=True, force_terminal=False)
    with console.capture() as said:
        console.print(terminal(document))
    return "\n".join(line.rstrip() for line in said.get().splitlines())


def _document(document: Document, room: Room) -> Iterator[RenderableType]:
    yield room.text(f"{document.kind}: {shown(document.title, limit=100)}", style="bold")
    if document.subtitle:
        yield room.text(document.subtitle, style="dim")
    before: type[Block] | None = None
    for block in _ordered(document.blocks):
        together = before is type(block) is not Table or {before, type(block)} <= {Verdict, Note}
        if before is not Heading and not together:
            yield Line("")
        yield from _DRAWN[type(block)](block, room)
        before = type(block)


def _ordered(blocks: Sequence[Block]) -> list[Block]:
    """Return what a terminal shows: no details, no charts; what is concluded last."""
    kept: list[Block] = []
    hidden: int | None = None
    for block in blocks:
        if isinstance(block, Heading) and (hidden is None or block.level <= hidden):
            hidden = block.level if block.detail else None
        if hidden is None and not isinstance(block, Chart):
            kept.append(block)
    last = [block for kind in (Verdict, Note) for block in kept if isinstance(block, kind)]
    return [*_not_empty([b for b in kept if not isinstance(b, Verdict | Note)]), *last]


def _not_empty(blocks: Sequence[Block]) -> list[Block]:
    """Return `blocks` without headings that have nothing under them."""
    kept: list[Block] = []
    for block in blocks:
        while kept and isinstance(block, Heading) and _ends(kept[-1], block):
            kept.pop()
        kept.append(block)
    while kept and isinstance(kept[-1], Heading):
        kept.pop()
    return kept


def _ends(before: Block, heading: Heading) -> bool:
    return isinstance(before, Heading) and before.level >= heading.level


# --- Words ------------------------------------------------------------------------------------


def _heading(block: Heading, room: Room) -> Iterator[RenderableType]:
    yield room.text(block.text, style="bold")


def _verdict(block: Verdict, room: Room) -> Iterator[RenderableType]:
    yield room.text(block.text, style="bold yellow" if block.tone == "warning" else "bold")
    for reason in block.reasons:
        yield room.text(reason)
    if block.names:
        more = f" and {len(block.names) - _NAMED} more" if len(block.names) > _NAMED else ""
        yield room.text(", ".join(block.names[:_NAMED]) + more)
    for remedy in block.remedies:
        yield room.text(f"- surer: {remedy}")


def _text(block: Text, room: Room) -> Iterator[RenderableType]:
    yield room.text(block.text, style="dim" if block.quiet else "")


def _note(block: Note, room: Room) -> Iterator[RenderableType]:
    yield room.text(f"- note: {block.text}", style="dim")


def _code(block: Code, room: Room) -> Iterator[RenderableType]:
    yield room.text(block.text)


def _figures(block: Figures, room: Room) -> Iterator[RenderableType]:
    yield _listed([(f.label, f.value, f.about) for f in block.figures], room)


def _facts(block: Facts, room: Room) -> Iterator[RenderableType]:
    if block.title:
        yield room.text(block.title, style="bold")
    yield _listed(block.pairs, room)


def _links(block: Links, room: Room) -> Iterator[RenderableType]:
    yield _listed(list(block.files.items()), room)


def _listed(rows: Sequence[Sequence[str]], room: Room) -> Grid:
    """Return labels with what belongs to them, a line each."""
    grid = Grid(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(style="dim", max_width=max(room.width // 2, 8))
    for row in rows:
        grid.add_row(*(room.text(cell) for cell in row))
    return grid


# --- Strips -----------------------------------------------------------------------------------


def _strip(block: Strip, room: Room) -> Iterator[RenderableType]:
    if block.values:
        ends = room.text(f"{number(min(block.values))} to {number(max(block.values))}", style="dim")
        name = room.text(shown(block.label, limit=24).ljust(11))
        width = max(room.width - name.cell_len - ends.cell_len - 4, 8)
        colour = _COLOURS[block.series % len(_COLOURS)]
        levels = sparkline(block.values, width, room, most=block.most, style=colour)
        yield Line("  ").join([name, levels, ends])
        return
    label = shown(block.label, limit=max(room.width // 3, 12)).ljust(11)
    fold = max((room.width - cell_len(label) - 14) // 10 * 10, 10)
    for start in range(0, len(block.indices), fold):
        part = block.indices[start : start + fold]
        ruler = "".join(f"{index:<10}" for index in part[::10]).rstrip()
        signs = "".join("●" if index in block.on else "·" for index in part)
        count = sum(index in block.on for index in part)
        yield room.text(f"{'':{cell_len(label)}}  {ruler}", style="dim")
        yield room.text(f"{label}  {signs}  {count} of {len(part)}")


def sparkline(
    values: Sequence[float], width: int, room: Room, *, most: float, style: str = "cyan"
) -> Line:
    """Return `values` as a row of at most `width` levels, from 0 to `most`.

    Where there are more values than characters, each character is the largest of its share.
    """
    levels = _ASCII_LEVELS if room.ascii_only else _LEVELS
    kept = _fewer(values, width)
    signs = (levels[min(round(max(v, 0.0) / most * 7), 7)] if most > 0 else levels[0] for v in kept)
    return Line("".join(signs), style=style)


def _fewer(values: Sequence[float], most: int) -> list[float]:
    """Return `values`, or the largest of each of `most` even shares of them."""
    count = len(values)
    if count <= most:
        return list(values)
    ends = [n * count // most for n in range(most + 1)]
    return [max(values[a:b]) for a, b in pairwise(ends)]


# --- Tables -----------------------------------------------------------------------------------


def _table(block: Table, room: Room) -> Iterator[RenderableType]:
    """Draw the columns that fit, the most important first; name the others below."""
    if not block.rows:
        return
    first, *others = (written(c, block.rows) for c in drawn_columns(block))
    rows = _evenly(len(block.rows), block.most)
    lead = 2 if block.marked else 0
    room_left = room.width - lead - min(_cells_width(first), max(room.width // 2, 8))
    parts = _fitting(others, block, room_left)
    kept = [first, *(c for c in others if parts.get(c.column.key))]
    if block.caption:
        yield room.text(block.caption, style="dim")
    yield from _grids(block, kept, parts, rows, room)
    told = [f"● {block.mark}"] if block.marked and block.mark else []
    left = [c.column.title.lower() for c in others if not parts.get(c.column.key)]
    told += [f"no room for {', '.join(left)}"] if left else []
    told += [f"{len(rows)} of {len(block.rows)} rows"] if len(rows) < len(block.rows) else []
    if told:
        yield room.text("; ".join(told), style="dim")


def _evenly(count: int, most: int | None) -> list[int]:
    """Return all places, or `most` of them from the first to the last."""
    if most is None or count <= most:
        return list(range(count))
    return [round(n * (count - 1) / (most - 1)) for n in range(most)]


def _heads(column: ColumnText) -> list[str]:
    """Return the heading in lines no longer than they need be, the unit last."""
    words = (column.column.short or column.column.title).split(" ")
    room = max([cell_len(cell) for cell in column.cells] + [len(word) for word in words])
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [*lines, column.unit] if column.unit else lines


def _cells_width(column: ColumnText) -> int:
    longest = max(cell_len(text) for text in (*_heads(column), *column.cells))
    return 2 + (longest if column.numeric else min(longest, _LONGEST))


def _fitting(columns: Sequence[ColumnText], table: Table, room: int) -> Mapping[str, set[str]]:
    """Return what is drawn of each column that fits: its value, its ends, a bar.

    An interval is worth half as much as the number that it is of, a bar a quarter.
    """
    wishes: list[tuple[float, str, str, int]] = []
    for column in columns:
        key, worth = column.column.key, column.column.importance
        wishes.append((worth, key, "value", _cells_width(column)))
        if any(column.ends):
            wishes.append((worth / 2, key, "ends", 1 + max(map(cell_len, column.ends))))
        if key == table.bar:
            wishes.append((worth / 4, key, "bar", 1 + _BAR))
    parts: dict[str, set[str]] = {}
    for _, key, part, width in sorted(wishes, key=lambda wish: -wish[0]):
        if (width <= room and (part == "value" or key in parts)) or (part == "value" and not parts):
            parts.setdefault(key, set()).add(part)
            room -= width
    return parts


def _grids(
    table: Table,
    columns: Sequence[ColumnText],
    parts: Mapping[str, set[str]],
    rows: Sequence[int],
    room: Room,
) -> Iterator[RenderableType]:
    """Draw one grid, or one after each line that names a group."""
    cells = [_drawn(c, parts.get(c.column.key, {"value"}), rows, room) for c in columns]
    marks = [[room.text("●" if row in table.marked else " ") for row in rows]]
    drawn = [*(marks if table.marked else []), *cells]
    starts = [place for place, row in enumerate(rows) if row in table.groups]
    for start, end in pairwise([*dict.fromkeys([0, *starts]), len(rows)]):
        if rows[start] in table.groups:
            yield from ([Line("")] if start else [])
            yield room.text(table.groups[rows[start]], style="bold")
        grid = _ruled(room)
        if table.marked:
            grid.add_column("", min_width=1)
        for column, texts in zip(columns, cells, strict=True):
            barred = "bar" in parts.get(column.column.key, ())
            _add_column(grid, column, texts, room, barred=barred)
        for place in range(start, end):
            style = "bold" if rows[place] in table.marked else ""
            grid.add_row(*(texts[place] for texts in drawn), style=style)
        yield grid


def _add_column(
    grid: Grid, column: ColumnText, texts: Sequence[Line], room: Room, *, barred: bool
) -> None:
    head = Line("\n").join(room.text(line) for line in _heads(column))
    right = column.numeric and not barred  # A bar begins where its neighbours begin.
    # The first column of numbers counts; an ellipsis is not ASCII.
    grid.add_column(
        head,
        justify="right" if right else "left",
        overflow="fold" if room.ascii_only else "ellipsis",
        vertical="bottom",
        min_width=min(max((text.cell_len for text in texts), default=0), _LONGEST),
    )


def _ruled(room: Room) -> Grid:
    """Return a grid with a rule under its headings and no other."""
    lines = _RULED if room.ascii_only else box.SIMPLE_HEAD
    return Grid(
        box=lines, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim"
    )


def _drawn(column: ColumnText, parts: set[str], rows: Sequence[int], room: Room) -> list[Line]:
    """Return the cells of `rows`, with their ends and bars where those have room."""
    made = [_aligned([column.cells[row] for row in rows], room, right=column.numeric)]
    if "ends" in parts:
        made.append(_aligned([column.ends[row] for row in rows], room, style="dim"))
    if "bar" in parts:
        made.append(_bars([column.values[row] for row in rows], room))
    return [Line(" ").join(cell) for cell in zip(*made, strict=True)]


def _aligned(
    texts: Sequence[str], room: Room, *, style: str = "", right: bool = True
) -> list[Line]:
    """Return `texts` with spaces before them, so that they end in one place."""
    width = max(cell_len(text) for text in texts) if right else 0
    return [room.text(" " * (width - cell_len(text)) + text, style=style) for text in texts]


def _bars(values: Sequence[float | None], room: Room) -> list[Line]:
    """Return a bar for each of `values`, that of the largest the longest."""
    most = max((value for value in values if value is not None), default=0.0)
    shares = [max(value or 0.0, 0.0) / most if most > 0 else 0.0 for value in values]
    draw = _ascii_bar if room.ascii_only else _bar
    return [Line(draw(share).ljust(_BAR), style="cyan") for share in shares]


def _bar(share: float) -> str:
    """Return a bar, to an eighth of a character."""
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _ascii_bar(share: float) -> str:
    return "#" * round(share * _BAR)


_DRAWN: Mapping[type, Callable[..., Iterator[RenderableType]]] = {
    Heading: _heading,
    Verdict: _verdict,
    Text: _text,
    Note: _note,
    Code: _code,
    Figures: _figures,
    Facts: _facts,
    Links: _links,
    Strip: _strip,
    Table: _table,
}
