"""Blocks on a terminal of any width, colour or encoding.

All text becomes `rich.text.Text`, in which square brackets are only brackets.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text as Line

from layerwise.report import blocks as b
from layerwise.report.numbers import number
from layerwise.report.renderers.cells import ColumnText, written
from layerwise.report.words import shown, visible

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
_LABEL = 11
_NAMED = 8


@dataclass(frozen=True)
class Room:
    """What a terminal can take: characters a line, and whether they must be ASCII."""

    width: int
    ascii_only: bool

    def text(self, text: str, *, style: str = "", whole: bool = False) -> Line:
        """Return `text` without markup, in characters that the terminal's encoding has.

        A word that is too long for its cell is cut, or `whole`, over several lines.
        """
        text = visible(text)
        if self.ascii_only:
            plain = text.replace("×10", "x10^").translate(_ASCII)
            text = plain.encode("ascii", "replace").decode()
        # An ellipsis, which would end what is too long for a cell, is not ASCII.
        return Line(text, style=style, overflow="fold" if self.ascii_only or whole else "ellipsis")


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


def terminal(document: b.Document, *, width: int | None = None) -> RenderableType:
    """Return `document` for `rich`: its tables and strips, then verdicts and notes.

    What is concluded comes last, where the eye is when a command ends. Sections of detail and
    charts are left to the page.

    Args:
        document: What is shown.
        width: Characters a line, where fewer than the console's are wanted.
    """
    return RoomRenderable(lambda room: _document(document, room), width)


def printed(document: b.Document, *, width: int | None = None) -> str:
    """Return what `terminal` shows, as text without colours."""
    console = Console(file=io.StringIO(), width=width, no_color=True, force_terminal=False)
    with console.capture() as said:
        console.print(terminal(document))
    return "\n".join(line.rstrip() for line in said.get().splitlines())


def _document(document: b.Document, room: Room) -> Iterator[RenderableType]:
    yield room.text(f"{document.kind}: {shown(document.title, limit=100)}", style="bold")
    if document.subtitle:
        yield room.text(document.subtitle, style="dim")
    before: type[b.Block] | None = None
    for kind, run in groupby(_ordered(document.blocks), key=type):
        if before is not b.Heading and {before, kind} != {b.Verdict, b.Note}:
            yield Line("")
        blocks = list(run)
        yield from _strips([block for block in blocks if isinstance(block, b.Strip)], room)
        for place, block in enumerate(blocks if kind is not b.Strip else ()):
            if place and kind is b.Table:
                yield Line("")
            yield from _DRAWN[kind](block, room)
        before = kind


def _ordered(blocks: Sequence[b.Block]) -> list[b.Block]:
    """Return what a terminal shows: no details, charts or bare headings; conclusions last."""
    kept: list[b.Block] = []
    last: list[b.Block] = []
    hidden: int | None = None
    for block in blocks:
        level = block.level if isinstance(block, b.Heading) else None
        if isinstance(block, b.Heading) and (hidden is None or block.level <= hidden):
            hidden = block.level if block.detail else None
        if hidden is None and isinstance(block, b.Verdict | b.Note):
            last.append(block)
        elif hidden is None and not isinstance(block, b.Chart):
            while level and kept and _bare(kept[-1], level):
                kept.pop()
            kept.append(block)
    while kept and _bare(kept[-1]):
        kept.pop()
    return [*kept, *sorted(last, key=lambda block: isinstance(block, b.Note))]


def _bare(block: b.Block, level: int = 0) -> bool:
    """Return whether `block` is a heading that one of `level`, or the end, leaves empty."""
    return isinstance(block, b.Heading) and block.level >= level


# --- Words ------------------------------------------------------------------------------------


def _verdict(block: b.Verdict, room: Room) -> Iterator[RenderableType]:
    yield room.text(block.text, style="bold yellow" if block.tone == "warning" else "bold")
    for reason in block.reasons:
        yield room.text(reason, whole=True)
    if block.names:
        more = f" and {len(block.names) - _NAMED} more" if len(block.names) > _NAMED else ""
        yield room.text(", ".join(block.names[:_NAMED]) + more)
    for remedy in block.remedies:
        yield room.text(f"- surer: {remedy}", whole=True)


def _facts(block: b.Facts, room: Room) -> Iterator[RenderableType]:
    if block.title:
        yield room.text(block.title, style="bold")
    yield from _listed(block.pairs, room)


def _listed(rows: Iterable[Sequence[str]], room: Room) -> Iterator[RenderableType]:
    """Draw labels with what belongs to them, a line each."""
    grid = Grid(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(style="dim", max_width=max(room.width // 2, 8))
    for row in rows:
        grid.add_row(*(room.text(cell) for cell in row))
    yield grid


# --- Strips -----------------------------------------------------------------------------------


def _strips(strips: Sequence[b.Strip], room: Room) -> Iterator[RenderableType]:
    """Draw strips below each other, those with numbers as levels, their labels equally wide."""
    labels = [room.text(shown(strip.label, limit=max(room.width // 3, 12))) for strip in strips]
    wide = max([_LABEL, *(label.cell_len for label in labels)])
    for strip, label in zip(strips, labels, strict=True):
        label.truncate(wide, pad=True)
        yield from (_levels if strip.values else _signs)(strip, label, room)


def _levels(strip: b.Strip, label: Line, room: Room) -> Iterator[RenderableType]:
    between = f"{number(min(strip.values))} to {number(max(strip.values))}"
    about = room.text(between, style="dim")
    width = max(room.width - label.cell_len - about.cell_len - 4, 8)
    colour = _COLOURS[strip.series % len(_COLOURS)]
    levels = sparkline(strip.values, width, room, most=strip.most, style=colour)
    yield Line("  ").join([label, levels, about])


def _signs(strip: b.Strip, label: Line, room: Room) -> Iterator[RenderableType]:
    """Draw a sign a block under a ruler, in as many lines as it takes."""
    fold = max((room.width - label.cell_len - 14) // 10 * 10, 10)
    for start in range(0, len(strip.indices), fold):
        part = strip.indices[start : start + fold]
        ruler = "".join(f"{index:<10}" for index in part[::10]).rstrip()
        signs = "".join("●" if index in strip.on else "·" for index in part)
        count = f"{sum(index in strip.on for index in part)} of {len(part)}"
        yield room.text(f"{'':{label.cell_len}}  {ruler}", style="dim")
        yield Line("  ").join([label, room.text(signs), room.text(count)])


def sparkline(
    values: Sequence[float], width: int, room: Room, *, most: float, style: str = "cyan"
) -> Line:
    """Return `values` as a row of at most `width` levels, from 0 to `most`.

    Where there are more values than characters, each character is the largest of its share.
    """
    levels = _ASCII_LEVELS if room.ascii_only else _LEVELS
    if len(values) > width:
        cuts = [n * len(values) // width for n in range(width + 1)]
        values = [max(values[start:end]) for start, end in pairwise(cuts)]
    shares = (max(value, 0.0) / most if most > 0 else 0.0 for value in values)
    signs = (levels[min(round(share * 7), 7)] for share in shares)
    return Line("".join(signs), style=style)


# --- Tables -----------------------------------------------------------------------------------


def _table(block: b.Table, room: Room) -> Iterator[RenderableType]:
    """Draw the columns that fit, the most important first; name the others below."""
    if not block.rows:
        return
    first, *others = written(block)
    count = len(block.rows)
    rows = list(range(count))
    if block.most is not None and count > block.most:
        rows = [round(n * (count - 1) / (block.most - 1)) for n in range(block.most)]
    lead = 2 if block.marked else 0
    parts = _fitting(others, block, room.width - lead - min(_width(first), max(room.width // 2, 8)))
    parts[first.column.key] = {"value"}
    if block.caption:
        yield room.text(block.caption, style="dim")
    kept = [column for column in (first, *others) if column.column.key in parts]
    yield from _grids(block, kept, parts, rows, room)
    left = [c.column.title.lower() for c in others if c.column.key not in parts]
    told = [
        f"● {block.mark}" if block.marked and block.mark else "",
        f"no room for {', '.join(left)}" if left else "",
        f"{len(rows)} of {count} rows" if len(rows) < count else "",
    ]
    if any(told):
        yield room.text("; ".join(filter(None, told)), style="dim")


def _width(column: ColumnText) -> int:
    """Return the least width of a column: of its longest word, unit or cell."""
    title = column.column.short or column.column.title
    longest = max(map(cell_len, (*title.split(" "), column.unit, *column.cells)))
    return 2 + (longest if column.numeric else min(longest, _LONGEST))


def _fitting(columns: Sequence[ColumnText], table: b.Table, room: int) -> dict[str, set[str]]:
    """Return what is drawn of each column that fits: its value, its ends, a bar.

    An interval is worth half as much as the number that it is of, a bar a quarter.
    """
    wishes: list[tuple[float, str, str, int]] = []
    for column in columns:
        key, worth = column.column.key, column.column.importance
        wishes.append((worth, key, "value", _width(column)))
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
    table: b.Table,
    columns: Sequence[ColumnText],
    parts: Mapping[str, set[str]],
    rows: Sequence[int],
    room: Room,
) -> Iterator[RenderableType]:
    """Draw one grid, or one after each line that names a group."""
    cells = [_drawn(column, parts[column.column.key], rows, room) for column in columns]
    marks = [[room.text("●" if row in table.marked else " ") for row in rows]]
    marks = marks if table.marked else []
    starts = [place for place, row in enumerate(rows) if row in table.groups]
    lines = _RULED if room.ascii_only else box.SIMPLE_HEAD
    for start, end in pairwise([*dict.fromkeys([0, *starts]), len(rows)]):
        if rows[start] in table.groups:
            if start:
                yield Line("")
            yield room.text(table.groups[rows[start]], style="bold")
        grid = Grid(
            box=lines, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim"
        )
        for _ in marks:
            grid.add_column("", min_width=1)
        for column, texts in zip(columns, cells, strict=True):
            _add_column(grid, column, texts, room, barred="bar" in parts[column.column.key])
        for place in range(start, end):
            style = "bold" if rows[place] in table.marked else ""
            grid.add_row(*(texts[place] for texts in (*marks, *cells)), style=style)
        yield grid


def _add_column(
    grid: Grid, column: ColumnText, texts: Sequence[Line], room: Room, *, barred: bool
) -> None:
    """Add a column that is as wide as its longest cell or word, under its title and unit."""
    head = room.text(f"{column.column.short or column.column.title}\n{column.unit}".rstrip())
    longest = max(text.cell_len for text in texts)
    grid.add_column(
        head,
        justify="right" if column.numeric and not barred else "left",  # Bars begin in one place.
        vertical="bottom",
        min_width=min(longest, _LONGEST),
        max_width=max([longest, *map(cell_len, head.plain.split())]),
    )


def _drawn(column: ColumnText, parts: set[str], rows: Sequence[int], room: Room) -> list[Line]:
    """Return the cells of `rows`, with their ends and bars where those have room."""
    made = [_aligned([column.cells[row] for row in rows], room, right=column.numeric)]
    if "ends" in parts:
        made.append(_aligned([column.ends[row] for row in rows], room, style="dim"))
    if "bar" in parts:
        made.append(_bars([column.values[row] for row in rows], room))
    return [room.text(" ").join(cell) for cell in zip(*made, strict=True)]


def _aligned(
    texts: Sequence[str], room: Room, *, style: str = "", right: bool = True
) -> list[Line]:
    """Return `texts` with spaces before them, so that they end in one place."""
    width = max(map(cell_len, texts)) if right else 0
    return [room.text(" " * (width - cell_len(text)) + text, style=style) for text in texts]


def _bars(values: Sequence[float | None], room: Room) -> list[Line]:
    """Return a bar for each of `values`, to an eighth of a character, the largest the longest."""
    most = max((value for value in values if value is not None), default=0.0)
    bars = []
    for value in values:
        share = max(value or 0.0, 0.0) / most if most > 0 else 0.0
        full, rest = divmod(round(share * _BAR * 8), 8)
        drawn = (
            "#" * round(share * _BAR) if room.ascii_only else "█" * full + _EIGHTHS[rest].strip()
        )
        bars.append(Line(drawn.ljust(_BAR), style="cyan"))
    return bars


_DRAWN: Mapping[type, Callable[..., Iterable[RenderableType]]] = {
    b.Heading: lambda block, room: [room.text(block.text, style="bold")],
    b.Verdict: _verdict,
    b.Text: lambda block, room: [room.text(block.text, style="dim" if block.quiet else "")],
    b.Note: lambda block, room: [room.text(f"- note: {block.text}", style="dim", whole=True)],
    b.Code: lambda block, room: [room.text(block.text, whole=True)],
    b.Figures: lambda block, room: _listed(block.figures, room),
    b.Facts: _facts,
    b.Table: _table,
}
