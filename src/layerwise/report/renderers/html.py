"""Blocks as one HTML file that needs nothing else and may do nothing else.

A page works offline under a Content-Security-Policy that allows its own scripts and style sheet by
their hashes and nothing else; all text in it is escaped.
"""

import base64
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_ASSETS_CACHE
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from layerwise.errors import OutputError
from layerwise.extras import absent, require
from layerwise.files import write_atomic
from layerwise.report import blocks as b
from layerwise.report.numbers import number
from layerwise.report.renderers.cells import written
from layerwise.report.renderers.theme import PAGE, Spec, chart_config
from layerwise.report.words import visible

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FEW = 12
_LOG = logging.getLogger(__name__)
#: What draws charts.
_DRAWING = ("altair", "vl_convert")
_UNDRAWN = (
    "The charts are left out, as what draws them is not installed: {} "
    "(pip install 'layerwise[charts]'). "
    "The tables have the same numbers."
)


def html(document: b.Document) -> bytes:
    """Return `document` as one UTF-8 HTML file, without charts where what draws them is missing."""
    if document.charts() and (lacking := absent(*_DRAWING)):
        note = _UNDRAWN.format(" and ".join(lacking))
        _LOG.warning("report: %s", note)
        kept = [block for block in document.blocks if not isinstance(block, b.Chart)]
        document = replace(document, blocks=[b.Note(note), *kept])
    drawings = _drawings(document)
    scripts = [_bundle(), _resource("charts.js")] if drawings["specs"] else []
    style = _resource("page.css")
    context = {
        "document": document,
        "sections": list(_sections(document.blocks)),
        "few": _FEW,
        "csp": _policy(scripts, style),
        "scripts": [Markup(script) for script in scripts],  # noqa: S704 - our own, hashed.
        "style": Markup(style),  # noqa: S704 - likewise.
        "drawings": _embedded(drawings),
    }
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    return environment.get_template("page.html.j2").render(context).lstrip().encode()


def framed(report: bytes) -> str:
    """Return a page for a notebook, in a frame that reaches nothing around it."""
    page = str(Markup.escape(report.decode()))
    return f'<iframe srcdoc="{page}" sandbox="allow-scripts" width="100%" height="900"></iframe>'


# --- Blocks -----------------------------------------------------------------------------------


def _sections(blocks: Sequence[b.Block]) -> Iterator[tuple[str, str, list[tuple[str, list[Any]]]]]:
    """Yield each section: its anchor, its heading, and runs of blocks of one kind.

    Blocks before the first heading have none.
    """
    runs: list[tuple[str, list[b.Block]]] = [("", [])]
    for block in blocks:
        if isinstance(block, b.Heading) and block.level == 2:
            runs.append((block.text, []))
        else:
            runs[-1][1].append(block)
    taken = {"charts", "tip"}  # Of the page's own elements.
    views: Mapping[type, Callable[[Any], Any]] = {
        **_VIEWS,
        b.Heading: lambda head: {"anchor": _anchor(head.text, taken), "text": head.text},
    }
    for title, own in [run for run in runs if run[1]]:
        anchor, parts = _anchor(title, taken), []
        for kind, run in groupby(own, key=type):
            view = views.get(kind)
            parts.append((kind.__name__.lower(), [view(x) if view else x for x in run]))
        yield anchor, title, parts


def _anchor(text: str, taken: set[str]) -> str:
    """Return a name in plain letters that no other heading has; from now on it is `taken`."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "part"
    name = next(n for k in range(1, 10_000) if (n := plain + f"-{k}" * (k > 1)) not in taken)
    taken.add(name)
    return name


def _chart(chart: b.Chart) -> dict[str, Any]:
    from layerwise.report.renderers.charts import heading

    return {"chart": chart, "title": heading(chart)}


def _facts(facts: b.Facts) -> dict[str, Any]:
    """Return facts, told apart from digests, which are set as code."""
    code = all(_DIGEST.fullmatch(value) for _, value in facts.pairs)
    return {"facts": facts, "code": code and bool(facts.pairs)}


def _table(table: b.Table) -> dict[str, Any]:
    """Return a table's headings, and its rows with what is to be said of each."""
    columns = written(table)
    looks = [
        ("number" if c.numeric else "") + (" spare" if c.column.importance < 0 else "")
        for c in columns
    ]
    rows = [
        {
            "group": table.groups.get(row, ""),
            "marked": row in table.marked,
            "cells": [
                (c.cells[row], c.ends[row], look) for c, look in zip(columns, looks, strict=True)
            ],
        }
        for row in range(len(table.rows))
    ]
    heads = [(c.column.title, c.unit, look) for c, look in zip(columns, looks, strict=True)]
    return {"table": table, "heads": heads, "rows": rows}


def _strip(strip: b.Strip) -> dict[str, Any]:
    """Return each block's number and how its cell looks: marked, or the darker the larger."""
    looks = ["on" if index in strip.on else "" for index in strip.indices]
    if strip.values:
        shares = (value / strip.most if strip.most > 0 else 0.0 for value in strip.values)
        looks = [f"heat-{round(10 * max(share, 0.0))}" for share in shares]
    cells = list(zip(strip.indices, looks, strict=True))
    most = number(strip.most) if strip.values else ""
    return {"strip": strip, "cells": cells, "most": most, "series": strip.series % 6 + 1}


_VIEWS: Mapping[type, Callable[[Any], Any]] = {
    b.Chart: _chart,
    b.Facts: _facts,
    b.Strip: _strip,
    b.Table: _table,
}


# --- The page ---------------------------------------------------------------------------------


@cache
def _bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed with their interpreter, as one script.

    To make it takes seconds, so it is kept among what the user's Hugging Face libraries keep.
    """
    kept = Path(HF_ASSETS_CACHE, "layerwise", f"vega-{version('vl-convert-python')}.js")
    with suppress(OSError, UnicodeDecodeError):
        return kept.read_text(encoding="utf-8")
    vl_convert = require("vl_convert", extra="charts", purpose="draw charts")
    made = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    with suppress(OutputError):  # Where nothing can be kept, it is made anew.
        write_atomic(kept, made.encode())
    return made


def _resource(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


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
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")
    return Markup(text)  # noqa: S704 - without `<` there is no tag, comment or end of element.


def _drawings(document: b.Document) -> dict[str, Any]:
    """Return the charts as wide as their figures, and the rows that several draw but once."""
    fit = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    specs: dict[str, Spec] = {}
    shared: dict[str, list[dict[str, Any]]] = {}
    names: dict[int, str] = {}
    for name, chart in document.charts().items():
        from layerwise.report.renderers.charts import specification

        spec = specification(chart, PAGE) | fit
        data = names.setdefault(id(chart.rows), f"rows-{len(names)}")
        own = spec["datasets"].pop("rows", [])
        known = shared.get(data, [{}] * len(own))
        shared[data] = [before | row for before, row in zip(known, own, strict=True)]
        specs[name] = spec | {"data": {"name": data}}
    return {"config": chart_config(PAGE), "specs": specs, "datasets": shared}
