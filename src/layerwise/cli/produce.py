"""What the commands that make a record have in common: prepare, make, write, say."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Any, Literal, TypedDict

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.launch import is_first, together
from layerwise.cli.output import publish, talk
from layerwise.files import prepare_output, write_atomic
from layerwise.options.declaration import Option
from layerwise.options.groups import Writing

__all__ = [
    "REPORT",
    "Charts",
    "OutputFormat",
    "Page",
    "Results",
    "open_report",
    "produce",
    "put_page",
]

REPORT = "report.html"


class OutputFormat(TypedDict, total=False):
    """What is said."""

    format: Annotated[
        Literal["human", "json", "quiet"], Option("What goes to standard output.", "human")
    ]


class Results(Writing, OutputFormat, total=False):
    """What becomes of a result."""


class Charts(TypedDict, total=False):
    """What is drawn."""

    charts: Annotated[bool, Option("Each chart as PNG and SVG too.", default=False)]
    open: Annotated[bool, Option("Open the report in a browser.", default=False)]


class Page(TypedDict, total=False):
    """A report of what is otherwise only said."""

    html: Annotated[Path | None, Option("Write the report there too.", metavar="FILE")]
    open: Annotated[bool, Option("Open the report in a browser.", default=False)]


def put_page(record: Any, *, file: Path | None, wanted: bool) -> None:
    """Write the report of `record` into `file`, if one is named, and open it where `wanted`.

    Raises:
        OutputError: It cannot be written there.
    """
    if file is None and not wanted:
        return
    from layerwise import report

    where = file or Path(mkdtemp(prefix="layerwise-")) / REPORT
    write_atomic(where, report.html(record))
    open_report(where, wanted=wanted)


def produce(
    make: Callable[..., Any],
    options: dict[str, Any],
    *,
    record: str,
    out: Path,
    needs: Sequence[str],
    several: bool = True,
    files: Callable[[Any], Mapping[str, bytes]] | None = None,
) -> None:
    """Make a record, write it with its report, and show it.

    Args:
        make: Gives the record, from ``device``, ``progress`` and the options that are left.
        options: All that the command got.
        record: The name of the record's file.
        out: Where it goes if the options do not say.
        needs: Modules that are imported before anything is made.
        several: Whether processes that were launched together share the work.
        files: Gives all files of the record; its JSON alone where None.
    """
    folder = options.pop("out") or out
    overwrite, form, charts, opened = (
        options.pop(name) for name in ("overwrite", "format", "charts", "open")
    )
    if is_first():
        prepare_output(folder, holds=record, overwrite=overwrite)
    with importing():
        for name in (*needs, "layerwise.report"):
            import_module(name)
    from layerwise import report

    with talk(form) as progress, together(options.pop("device", "auto"), several=several) as device:
        made = make(progress=progress, device=device, **options)
        if is_first() or not several:
            own = {record: made.to_json()} if files is None else files(made)
            drawn = report.files(made, charts=charts)
            table = report.terminal(made)
            publish({**own, **drawn}, record=record, out=folder, form=form, table=table)
            open_report(folder / REPORT, wanted=opened)


def open_report(file: Path, *, wanted: bool) -> None:
    """Open the page `file` in a browser where that is `wanted`; say so where there is none."""
    if not wanted:
        return
    import webbrowser

    if not webbrowser.open(file.resolve().as_uri()):
        click.echo(f"layerwise: no browser was found to open {file}", err=True)
