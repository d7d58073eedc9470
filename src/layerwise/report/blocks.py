"""What a record has to say, as blocks: all that a renderer knows.

Text in blocks is plain: no markup, whatever is in it. Renderers escape it, and draw characters
that could hide or reorder the text around them as U+FFFD.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from layerwise.columns import Column, RowValues

Row = Mapping[str, Any]
"""Values by field."""
Rows = Sequence[Row]
Tone = Literal["plain", "warning"]
Scale = Literal["near", "zero", "share", "log"]


@dataclass(frozen=True)
class Heading:
    """The start of a section, which goes on to the next heading of this level or above.

    A section of `detail` is left out on a terminal; a page has room for it.
    """

    text: str
    level: Literal[2, 3] = 2
    detail: bool = False


@dataclass(frozen=True)
class Verdict:
    """What was found, in one sentence.

    Attributes:
        reasons: What it rests on, a sentence each.
        remedies: What would make it surer.
        names: What it is about, where that is a list (modules).
        tone: A warning stands out from what was merely found.
    """

    text: str
    reasons: Sequence[str] = ()
    remedies: Sequence[str] = ()
    names: Sequence[str] = ()
    tone: Tone = "plain"


@dataclass(frozen=True)
class Text:
    """A paragraph; a `quiet` one explains what stands beside it, and has less weight."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Note:
    """What was done otherwise than asked, or fell back."""

    text: str


@dataclass(frozen=True)
class Code:
    """What was typed, or is to be."""

    text: str


@dataclass(frozen=True)
class Figures:
    """Key figures beside each other: the name of each, the figure, and what it says."""

    figures: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Facts:
    """Values by label, one a line; those of one `title` beside those of another."""

    pairs: Sequence[tuple[str, str]]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of raw values under typed columns.

    Attributes:
        name: Of its file and data frame.
        columns: The first heads each row. One that is empty throughout is not drawn.
        marked: Which rows stand out.
        mark: What the marked rows are, for who does not see it.
        groups: A line of its own before a row: the name of those that follow.
        caption: What the table shows.
        bar: The key of the column that a terminal draws as bars, where it has room.
        most: Rows that a terminal draws, evenly from the first to the last; None for all.
    """

    name: str
    columns: Sequence[Column]
    rows: Sequence[RowValues]
    marked: frozenset[int] = frozenset()
    mark: str = ""
    groups: Mapping[int, str] = field(default_factory=dict)
    caption: str = ""
    bar: str = ""
    most: int | None = None

    @property
    def drawn(self) -> list[Column]:
        """The first column, and those that say something of any row."""
        first, *others = self.columns
        return [first, *(c for c in others if any(_said(row.get(c.key)) for row in self.rows))]


def _said(value: Any) -> bool:
    """Return whether a cell says something: 0 does, an absent mark or text does not."""
    return value is not None and value is not False and value != ""


@dataclass(frozen=True)
class Strip:
    """The blocks of a stack from input to output, as cells.

    Attributes:
        indices: The blocks' numbers.
        on: The blocks that are marked; used where there are no `values`.
        values: A number a block, at least 0: the stronger the colour, the larger.
        most: What the strongest colour stands for.
        about: What stands beside the label.
        summary: What it shows, for who does not see it.
        series: Which of the theme's colours, from 0.
    """

    label: str
    indices: Sequence[int]
    on: frozenset[int] = frozenset()
    values: Sequence[float] = ()
    most: float = 0.0
    about: str = ""
    summary: str = ""
    series: int = 0


@dataclass(frozen=True)
class Axis:
    """What runs along one side of a chart.

    Attributes:
        field: The values' field.
        title: Written beside it; empty where the chart's title says it.
        unit: Of its numbers; of the axis up the side it joins the chart's title.
        form: How its numbers are written.
        scale: From the data's ends, from 0, from 0 to 1, or logarithmic where positive numbers
            span more than a linear axis could show.
        most: What the axis from 0 reaches at least, so that several charts share a scale.
    """

    field: str
    title: str = ""
    unit: str = ""
    form: Literal["number", "percent"] = "number"
    scale: Scale = "near"
    most: float = 0.0


@dataclass(frozen=True)
class Rule:
    """A dashed line across a chart at `at` of axis `of`, with its name; or a band from 0 to it."""

    at: float
    of: Literal["x", "y"] = "y"
    text: str = ""
    band: bool = False


@dataclass(frozen=True)
class Chart:
    """Numbers to draw: rows, and which field goes where.

    Attributes:
        name: Of its file and place on the page.
        title: What it is called.
        kind: How it is drawn: ``blocks`` (points over depth), ``bars``, ``intervals`` (line by
            line), ``scatter``, ``heat`` (shades), or another of `renderers.charts.KINDS`.
        rows: JSON values by field; ``head`` names a row in the tooltip. Of blocks, ``x`` is the
            place on an axis on which a gap parts the stacks, ``index`` the number there.
        x: Along the bottom.
        y: Up the side.
        series: The field that colour goes by; of shades, the share that is the darkness.
        names: The series in the order of their colours.
        filled: The field of whether a point is filled; hollow elsewhere. All are where empty.
        low: The field of the interval's lower end.
        high: The field of its upper end.
        label: The field of the text beside a point or in a cell.
        tips: What a tooltip tells of a row.
        faint: Rows drawn pale behind the others: single seeds or conditions.
        lines: Rows of dashed lines: both axes' fields, the series', and ``low`` and ``high``.
        rules: Lines across.
        top: Names above the places of some blocks.
        other: The field of a second, hollow value of each line, joined with the first.
        join: The field of what belongs together: faint lines, or lines of one tint.
        caption: How to read it.
        summary: What it shows, for who does not see it; the caption where empty.
        width: How many of a row's places it takes: wide ones stand alone, three may share a row.
        height: Of the drawing, in pixels.
    """

    name: str
    title: str
    kind: str
    rows: Rows
    x: Axis
    y: Axis
    series: str = ""
    names: Sequence[str] = ()
    filled: str = ""
    low: str = ""
    high: str = ""
    label: str = ""
    tips: Sequence[Column] = ()
    faint: Rows = ()
    lines: Rows = ()
    rules: Sequence[Rule] = ()
    top: Mapping[int, str] = field(default_factory=dict)
    other: str = ""
    join: str = ""
    caption: str = ""
    summary: str = ""
    width: Literal["wide", "half", "third"] = "half"
    height: int = 170

    def __post_init__(self) -> None:
        """Refuse bars on an axis without 0, where they would leave their chart."""
        if self.kind == "bars" and self.y.scale in {"near", "log"}:
            message = f"chart {self.name!r}: bars begin at 0, so their scale must"
            raise ValueError(message)


Block = Heading | Verdict | Text | Note | Code | Figures | Facts | Table | Strip | Chart


@dataclass(frozen=True)
class Document:
    """What a record has to say, in the order in which it is read.

    Attributes:
        kind: What the record is called (``"Layer Card"``).
        title: What it is of.
        subtitle: On what it was made.
    """

    kind: str
    title: str
    subtitle: str
    blocks: Sequence[Block]

    def tables(self) -> dict[str, Table]:
        """The tables by name."""
        return {block.name: block for block in self.blocks if isinstance(block, Table)}

    def charts(self) -> dict[str, Chart]:
        """The charts by name."""
        return {block.name: block for block in self.blocks if isinstance(block, Chart)}
