"""Blocks as one HTML file that needs nothing else and may do nothing else.

A page works offline under a Content-Security-Policy that allows its own scripts and style sheet by
their hashes and nothing else; all text in it is escaped.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from layerwise.report.blocks import Block, Chart, Document, Facts, Heading, Links, Strip, Table
from layerwise.report.renderers.cells import drawn_columns, written
from layerwise.report.renderers.charts import heading, specification
from layerwise.report.renderers.theme import PAGE, Spec, chart_config
from layerwise.report.words import shown, visible

__all__ = ["framed", "html"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SAFE = re.compile(r"[\w.-]+(/[\w.-]+)*")
_FEW = 12


@dataclass(frozen=True)
class _Section:
    """A heading with what stands under it: runs of blocks of one kind."""

    anchor: str
    heading: str
    parts: Sequence[tuple[str, Sequence[Any]]]


def html(document: Document) -> bytes:
    """Return `document` as one UTF-8 HTML file."""
    drawings = _drawings(document)
    scripts = [_bundle(), _resource("charts.js")] if drawings["specs"] else []
    style = _resource("page.css")
    context = {
        "document": document,
        "sections": _sections(document.blocks),
        "few": _FEW,
        "csp": _policy(scripts, style),
        "scripts": [Markup(script) for script in scripts],  # noqa: S704 - our own, hashed.
        "style": Markup(style),  # noqa: S704 - likewise.
        "drawings": _embedded(drawings),
    }
    return _environment().get_template("page.html.j2").render(context).lstrip().encode()


def framed(report: bytes) -> str:
    """Return a page for a notebook, in a frame that reaches nothing around it."""
    page = str(Markup.escape(report.decode()))
    return f'<iframe srcdoc="{page}" sandbox="allow-scripts" width="100%" height="900"></iframe>'


# --- Blocks -----------------------------------------------------------------------------------


def _sections(blocks: Sequence[Block]) -> list[_Section]:
    """Return the blocks by section; those before the first heading have none."""
    runs: list[tuple[Heading | None, list[Block]]] = [(None, [])]
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            runs.append((block, []))
        else:
            runs[-1][1].append(block)
    anchors = _anchors()
    return [
        _Section(
            anchors(head.text if head else ""), head.text if head else "", _parts(own, anchors)
        )
        for head, own in runs
        if own
    ]


def _anchors() -> Any:
    """Return a function that gives each heading a name of its own, in plain letters."""
    taken = {"charts", "tip"}  # Of the page's own elements.

    def anchor(text: str) -> str:
        plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "part"
        name = next(n for k in range(1, 10_000) if (n := plain + f"-{k}" * (k > 1)) not in taken)
        taken.add(name)
        return name

    return anchor


def _parts(blocks: Sequence[Block], anchor: Any) -> list[tuple[str, Sequence[Any]]]:
    """Return runs of blocks of one kind, ready for the template."""
    return [
        (kind, [_view(block, anchor) for block in run])
        for kind, run in groupby(blocks, key=lambda block: type(block).__name__.lower())
    ]


def _view(block: Block, anchor: Any) -> Any:
    """Return what the template writes of a block."""
    if isinstance(block, Heading):
        return {"anchor": anchor(block.text), "text": block.text}
    view = _VIEWS.get(type(block))
    return view(block) if view else block


def _chart(chart: Chart) -> dict[str, Any]:
    return {"chart": chart, "title": heading(chart), "told": chart.summary or chart.caption}


def _facts(facts: Facts) -> dict[str, Any]:
    """Return facts, told apart from digests, which are set as code."""
    code = all(_DIGEST.fullmatch(value) for _, value in facts.pairs)
    return {"facts": facts, "code": code and bool(facts.pairs)}


def _strip(strip: Strip) -> dict[str, Any]:
    return {"strip": strip, "cells": list(_cells(strip)), "series": strip.series % 6 + 1}


def _links(links: Links) -> dict[str, str]:
    """Return the files that lie beside the page, and no other address."""
    return {label: path for label, path in links.files.items() if _SAFE.fullmatch(path)}


def _table(table: Table) -> dict[str, Any]:
    """Return a table's headings, and its rows with what is to be said of each."""
    columns = [written(column, table.rows) for column in drawn_columns(table)]
    rows = [
        {
            "group": table.groups.get(number, ""),
            "marked": number in table.marked,
            "cells": [(c.cells[number], c.ends[number], _look(c)) for c in columns],
        }
        for number in range(len(table.rows))
    ]
    heads = [(c.column.title, c.unit, _look(c)) for c in columns]
    return {"table": table, "heads": heads, "rows": rows}


def _look(column: Any) -> str:
    looks = ["number"] if column.numeric else []
    return " ".join([*looks, *(["spare"] if column.column.importance < 0 else [])])


def _cells(strip: Strip) -> Iterator[tuple[int, str]]:
    """Yield each block's number and how its cell looks: marked, or the darker the larger."""
    for place, index in enumerate(strip.indices):
        if strip.values:
            share = strip.values[place] / strip.most if strip.most > 0 else 0.0
            yield index, f"heat-{round(10 * max(share, 0.0))}"
        else:
            yield index, "on" if index in strip.on else ""


_VIEWS: Mapping[type, Callable[[Any], Any]] = {
    Chart: _chart,
    Facts: _facts,
    Links: _links,
    Strip: _strip,
    Table: _table,
}


# --- The page ---------------------------------------------------------------------------------


@cache
def _bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed with their interpreter, as one script."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _resource(name: str) -> str:
    return (
        files("layerwise.report.renderers").joinpath("templates", name).read_text(encoding="utf-8")
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("layerwise.report.renderers"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters["shorten"] = lambda text, limit: shown(text, limit=limit)
    return environment


def _finalize(value: Any) -> Any:
    """Return what the template is about to write, with unprintable characters made visible."""
    plain_text = isinstance(value, str) and not isinstance(value, Markup)
    return visible(value) if plain_text else value


def _policy(scripts: Sequence[str], style: str) -> str:
    allowed = " ".join(_hash(script) for script in scripts) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _embedded(value: object) -> Markup:
    """Return `value` as JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    return Markup(text)  # noqa: S704 - without `<` there is no tag, comment or end of element.


def _drawings(document: Document) -> dict[str, Any]:
    """Return the charts as wide as their figures, and the rows that several draw but once."""
    fit = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    specs: dict[str, Spec] = {}
    shared: dict[str, list[dict[str, Any]]] = {}
    names: dict[int, str] = {}
    for name, chart in document.charts().items():
        spec = specification(chart, PAGE) | fit
        data = names.setdefault(id(chart.rows), f"rows-{len(names)}")
        own = spec["datasets"].pop("rows", [])
        known = shared.get(data, [{}] * len(own))
        shared[data] = [before | row for before, row in zip(known, own, strict=True)]
        specs[name] = spec | {"data": {"name": data}}
    return {"config": chart_config(PAGE), "specs": specs, "datasets": shared}
