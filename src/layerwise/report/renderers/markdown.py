"""Blocks as Markdown, for a README, an issue or a pull request."""

import re
from collections.abc import Callable, Iterable, Mapping

from layerwise.report.blocks import (
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
from layerwise.report.renderers.cells import drawn_columns, written
from layerwise.report.words import ranges, visible

__all__ = ["markdown"]

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&]|^[-+=#])")
_COUNTED = re.compile(r"^(\d+)([.)])(?=\s|$)")


def markdown(document: Document) -> str:
    """Return `document` as CommonMark with tables; charts are told by what they show."""
    head = [f"# {_plain(document.kind)}: {_plain(document.title)}", _plain(document.subtitle)]
    parts = [_DRAWN[type(block)](block) for block in document.blocks]
    return "\n\n".join(part for part in (*head, *parts) if part) + "\n"


def _plain(text: str) -> str:
    """Return `text` on one line, in which nothing is markup."""
    flat = _SPECIAL.sub(r"\\\1", " ".join(visible(text).split()))
    return _COUNTED.sub(r"\1\\\2", flat)


def _heading(block: Heading) -> str:
    return f"{'#' * block.level} {_plain(block.text)}"


def _verdict(block: Verdict) -> str:
    names = [", ".join(map(_plain, block.names))] if block.names else []
    told = [f"**{_plain(block.text)}**", *map(_plain, block.reasons), *names]
    remedies = _listed(f"Surer: {_plain(remedy)}" for remedy in block.remedies)
    return "\n\n".join([*told, remedies] if remedies else told)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(block: Table) -> str:
    if not block.rows:
        return ""
    columns = [written(column, block.rows) for column in drawn_columns(block)]
    heads = [f"{c.column.title} ({c.unit})" if c.unit else c.column.title for c in columns]
    lines = [[_plain(head) for head in heads], ["--:" if c.numeric else ":--" for c in columns]]
    for number_of_row in range(len(block.rows)):
        cells = [_cell(c.cells[number_of_row], c.ends[number_of_row]) for c in columns]
        if number_of_row in block.groups:
            lines.append([f"**{_plain(block.groups[number_of_row])}**", *[""] * (len(columns) - 1)])
        cells[0] = f"**{cells[0]}**" if number_of_row in block.marked else cells[0]
        lines.append(cells)
    caption = [_plain(block.caption), ""] if block.caption else []
    mark = ["", f"Bold: {_plain(block.mark)}."] if block.marked and block.mark else []
    return "\n".join([*caption, *(f"| {' | '.join(line)} |" for line in lines), *mark])


def _cell(text: str, ends: str) -> str:
    return _plain(f"{text} ({ends})" if ends else text)


def _strip(block: Strip) -> str:
    label = _plain(block.label)
    if not block.values:
        return f"- {label}: {ranges(block.on) or 'none'}" + (
            f" ({_plain(block.about)})" if block.about else ""
        )
    most = max(range(len(block.values)), key=lambda place: block.values[place])
    ends = f"{number(min(block.values))} to {number(max(block.values))}"
    return f"- {label}: {ends}, the most at block {block.indices[most]}"


def _chart(block: Chart) -> str:
    return f"*{_plain(block.title)}.* {_plain(block.summary or block.caption)}"


def _code(block: Code) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
    return f"{fence}\n{visible(block.text)}\n{fence}"


def _figures(block: Figures) -> str:
    return _listed(
        f"{_plain(f.label)}: **{_plain(f.value)}** {_plain(f.about)}".rstrip()
        for f in block.figures
    )


def _facts(block: Facts) -> str:
    lines = _listed(f"{_plain(label)}: {_plain(value)}" for label, value in block.pairs)
    return f"**{_plain(block.title)}**\n\n{lines}" if block.title else lines


_DRAWN: Mapping[type, Callable[..., str]] = {
    Heading: _heading,
    Verdict: _verdict,
    Text: lambda block: _plain(block.text),
    Note: lambda block: f"- {_plain(block.text)}",
    Code: _code,
    Figures: _figures,
    Facts: _facts,
    Links: lambda block: _listed(
        f"{_plain(label)}: `{path}`" for label, path in block.files.items()
    ),
    Strip: _strip,
    Table: _table,
    Chart: _chart,
}
