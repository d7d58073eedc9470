"""Records as documents, and documents as pages, tables, text and charts.

`document` says what a record has to say, as blocks; each other function draws that. All of them
take a record, or a document made before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from layerwise.extras import locate
from layerwise.records import DocumentRecord
from layerwise.report.blocks import Document

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

Drawable = DocumentRecord | Document
"""A record that has a document, or one made before."""


def document(record: Drawable, **beside: Any) -> Document:
    """Return what `record` has to say: the blocks that `layerwise.report.documents` gives of it.

    A document is itself; `beside` is what it is drawn with: ``placement`` of a card.
    """
    if isinstance(record, Document):
        return record
    module = import_module(f"layerwise.report.documents.{record.DOCUMENT}")
    drawn: Document = module.document(record, **beside)
    return drawn


def terminal(record: Drawable, *, width: int | None = None, **beside: Any) -> "RenderableType":
    """Return `record` for `rich`, `width` characters a line (default: the console's)."""
    from layerwise.report.renderers.terminal import terminal as drawn

    return drawn(document(record, **beside), width=width)


def text(record: Drawable, *, width: int | None = None, **beside: Any) -> str:
    """Return what a terminal of `width` characters shows of `record`, without colours."""
    from layerwise.report.renderers.terminal import printed

    return printed(document(record, **beside), width=width)


def html(record: Drawable, **beside: Any) -> bytes:
    """Return the report of `record` as one UTF-8 HTML file that needs nothing else.

    It works offline under a Content-Security-Policy that allows its own scripts and style sheet by
    their hashes and nothing else. All text from the record is escaped.
    """
    from layerwise.report.renderers.html import html as drawn

    return drawn(document(record, **beside))


def notebook(record: Drawable, **beside: Any) -> str:
    """Return the report of `record` for a notebook, in a frame that reaches nothing around it."""
    from layerwise.report.renderers.html import framed

    return framed(html(record, **beside))


def markdown(record: Drawable, **beside: Any) -> str:
    """Return `record` as Markdown: its words and tables, and what its charts show."""
    from layerwise.report.renderers.markdown import markdown as drawn

    return drawn(document(record, **beside))


def frames(record: Drawable, **beside: Any) -> "dict[str, pd.DataFrame]":
    """Return the tables of `record` by name, their columns as declared."""
    from layerwise.report.renderers.frames import frame

    tables = document(record, **beside).tables()
    return {name: frame(table) for name, table in tables.items()}


def check_charts(*, wanted: bool) -> None:
    """Raise where charts are wanted and what draws them is not installed.

    Raises:
        BadInputError: It is not; work that would end so is not begun.
    """
    if wanted:
        for package in ("altair", "vl_convert"):
            locate(package, extra="charts", purpose="draw charts")


def files(record: Drawable, *, charts: bool, **beside: Any) -> dict[str, bytes]:
    """Return what a command writes of `record` beside its JSON: the report, and charts if asked."""
    made = document(record, **beside)
    return {"report.html": html(made), **(_exported(made) if charts else {})}


def charts(record: Drawable, **beside: Any) -> dict[str, bytes]:
    """Return ``chart-<name>.png`` and ``.svg`` of each chart, drawn without any network."""
    return _exported(document(record, **beside))


def _exported(made: Document) -> dict[str, bytes]:
    check_charts(wanted=True)
    from layerwise.report.renderers.charts import exported

    return exported(made)
