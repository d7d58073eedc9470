"""Blocks as Markdown, for a README, an issue or a pull request."""

import re
from collections.abc import Callable, Iterable, Mapping

from layerwise.report import blocks as b
from layerwise.report.numbers import number
from layerwise.report.renderers.cells import written
from layerwise.report.words import ranges, visible

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&]|^[-+=#])")
_COUNTED = re.compile(r"^(\d+)([.)])(?=\s|$)")


def markdown(document: b.Document) -> str:
    """Return `document` as CommonMark with tables; charts are told by what they show."""
    head = [f"# {_plain(document.kind)}: {_plain(document.title)}", _plain(document.subtitle)]
    parts = [_DRAWN[type(block)](block) for block in document.blocks]
    return "\n\n".join(part for part in (*head, *parts) if part) + "\n"


def _plain(text: str) -> str:
    """Return `text` on one line, in which nothing is markup."""
    flat = _SPECIAL.sub(r"\\\1", " ".join(visible(text).split()))
    return _COUNTED.sub(r"\1\\\2", flat)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _verdict(block: b.Verdict) -> str:
    names = ", ".join(map(_plain, block.names))
    remedies = _listed(f"Surer: {_plain(remedy)}" for remedy in block.remedies)
    told = [f"**{_plain(block.text)}**", *map(_plain, block.reasons), names, remedies]
    return "\n\n".join(filter(None, told))


def _table(block: b.Table) -> str:
    if not block.rows:
        return ""
    columns = written(block)
    heads = [f"{c.column.title} ({c.unit})" if c.unit else c.column.title for c in columns]
    lines = [[_plain(head) for head in heads], ["--:" if c.numeric else ":--" for c in columns]]
    for row in range(len(block.rows)):
        cells = [
            _plain(c.cells[row] + (f" ({c.ends[row]})" if c.ends[row] else "")) for c in columns
        ]
        if row in block.groups:
            lines.append([f"**{_plain(block.groups[row])}**", *[""] * (len(columns) - 1)])
        cells[0] = f"**{cells[0]}**" if row in block.marked else cells[0]
        lines.append(cells)
    caption = [_plain(block.caption), ""] if block.caption else []
    mark = ["", f"Bold: {_plain(block.mark)}."] if block.marked and block.mark else []
    return "\n".join([*caption, *(f"| {' | '.join(line)} |" for line in lines), *mark])


def _strip(block: b.Strip) -> str:
    if not block.values:
        about = f" ({_plain(block.about)})" if block.about else ""
        return f"- {_plain(block.label)}: {ranges(block.on) or 'none'}{about}"
    most = max(range(len(block.values)), key=lambda place: block.values[place])
    between = f"{number(min(block.values))} to {number(max(block.values))}"
    return f"- {_plain(block.label)}: {between}, the most at block {block.indices[most]}"


def _code(block: b.Code) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
    return f"{fence}\n{visible(block.text)}\n{fence}"


def _figures(block: b.Figures) -> str:
    figures = ([_plain(part) for part in figure] for figure in block.figures)
    return _listed(f"{label}: **{value}** {about}".rstrip() for label, value, about in figures)


def _facts(block: b.Facts) -> str:
    lines = _listed(f"{_plain(label)}: {_plain(value)}" for label, value in block.pairs)
    return f"**{_plain(block.title)}**\n\n{lines}" if block.title else lines


_DRAWN: Mapping[type, Callable[..., str]] = {
    b.Heading: lambda block: f"{'#' * block.level} {_plain(block.text)}",
    b.Verdict: _verdict,
    b.Text: lambda block: _plain(block.text),
    b.Note: lambda block: f"- {_plain(block.text)}",
    b.Code: _code,
    b.Figures: _figures,
    b.Facts: _facts,
    b.Strip: _strip,
    b.Table: _table,
    b.Chart: lambda block: f"*{_plain(block.title)}.* {_plain(block.summary or block.caption)}",
}
