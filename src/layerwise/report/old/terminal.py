"""What all tables share: how they fit a terminal of any width, colour or encoding.

All text becomes `rich.text.Text`, in which square brackets are only brackets.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich import box
from rich.console import (
    Console,
    ConsoleOptions,
    JustifyMethod,
    OverflowMethod,
    RenderableType,
    RenderResult,
)
from rich.table import Table
from rich.text import Text

from layerwise.report.old.story import number
from layerwise.report.old.text import counted, shown

__all__ = [
    "Room",
    "Sized",
    "aligned",
    "bars",
    "plain_table",
    "spark",
    "sparkline",
    "tabled",
    "warnings",
]

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVELS = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS = "_.-:=+*#"
_RULED = box.Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-", strict=True))
_ASCII = str.maketrans(
    {"●": "*", "·": ".", "–": "-", "…": "...", "µ": "u", "→": "->", "�": "?", **_SUPERSCRIPTS}
)


@dataclass(frozen=True)
class Room:
    """What a terminal can take: characters a line, and whether they must be ASCII."""

    width: int
    ascii_only: bool

    def text(self, text: str, *, style: str = "") -> Text:
        """`text` without markup, in characters that the terminal's encoding has."""
        if self.ascii_only:
            plain = text.replace("×10", "x10^").translate(_ASCII)
            text = plain.encode("ascii", "replace").decode()
        return Text(text, style=style)


@dataclass(frozen=True)
class Sized:
    """A renderable that is made when the room for it is known.

    Attributes:
        make: Gives its parts.
        width: Characters a line, where fewer than the console's are wanted.
    """

    make: Callable[[Room], Iterator[RenderableType]]
    width: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, self.width or options.max_width)
        sized = options.update(width=width)
        for part in self.make(Room(width, options.ascii_only)):
            yield from console.render(part, sized)


def plain_table(room: Room) -> Table:
    """A table with a rule under its headings and no other."""
    lines = _RULED if room.ascii_only else box.SIMPLE_HEAD
    return Table(box=lines, show_edge=False, padding=(0, 1), pad_edge=False, header_style="dim")


def tabled(
    headings: Sequence[str], rows: Iterable[Sequence[str | Text]], room: Room, *, left: int = 0
) -> Table:
    """A plain table of `rows`, numbers to the right; the column `left` is text, to the left."""
    table = plain_table(room)
    cut: OverflowMethod = "fold" if room.ascii_only else "ellipsis"  # An ellipsis is not ASCII.
    for place, heading in enumerate(headings):
        justify: JustifyMethod = "left" if place == left else "right"
        table.add_column(room.text(heading), justify=justify, overflow=cut)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else room.text(cell) for cell in row))
    return table


def aligned(texts: Sequence[str], room: Room, *, style: str = "") -> list[Text]:
    """`texts` with spaces before them, so that they end in one place."""
    width = max(len(text) for text in texts)
    return [room.text(text.rjust(width), style=style) for text in texts]


def bars(values: Sequence[float | None], width: int, room: Room) -> list[Text]:
    """A bar for each of `values`, that of the largest `width` characters long."""
    most = max((value for value in values if value is not None), default=0.0)
    shares = [max(value or 0.0, 0.0) / most if most > 0 else 0.0 for value in values]
    draw = _ascii_bar if room.ascii_only else _bar
    return [Text(draw(share, width).ljust(width), style="cyan") for share in shares]


def _bar(share: float, width: int) -> str:
    """A bar of `share` of `width`, to an eighth of a character."""
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _ascii_bar(share: float, width: int) -> str:
    return "#" * round(share * width)


def sparkline(
    values: Sequence[float], width: int, room: Room, *, most: float, style: str = "cyan"
) -> Text:
    """`values` as a row of at most `width` levels, from 0 to `most`.

    Where there are more values than characters, each character is the largest of its share.
    """
    levels = _ASCII_LEVELS if room.ascii_only else _LEVELS
    kept = _fewer(values, width)
    signs = (levels[min(round(max(v, 0.0) / most * 7), 7)] if most > 0 else levels[0] for v in kept)
    return Text("".join(signs), style=style)


def spark(
    label: str, changes: Sequence[float], room: Room, *, most: float, style: str = "cyan"
) -> Text:
    """A line with a level a block, from 0 to `most`, and what the least and the largest are."""
    ends = room.text(f"{number(min(changes))} to {number(max(changes))}", style="dim")
    name = room.text(label.ljust(11))
    width = max(room.width - name.cell_len - ends.cell_len - 4, 8)
    return Text("  ").join([name, sparkline(changes, width, room, most=most, style=style), ends])


def _fewer(values: Sequence[float], most: int) -> list[float]:
    """`values`, or the largest of each of `most` even shares of them."""
    count = len(values)
    if count <= most:
        return list(values)
    ends = [n * count // most for n in range(most + 1)]
    return [max(values[a:b]) for a, b in pairwise(ends)]


_NAMED = 8


def warnings(
    untrained: tuple[str, ...], notes: tuple[str, ...], room: Room
) -> Iterator[RenderableType]:
    """What a reader must not miss, and what was done otherwise than asked."""
    if untrained:
        modules = counted(len(untrained), "module")
        names = ", ".join(shown(name, limit=80) for name in untrained[:_NAMED])
        more = f" and {len(untrained) - _NAMED} more" if len(untrained) > _NAMED else ""
        told = f"{modules} never trained (adapter B all zero): {names}{more}"
        yield room.text(told, style="bold yellow")
    for note in notes:
        yield room.text(f"- note: {shown(note, limit=600)}", style="dim")
