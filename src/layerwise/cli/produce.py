"""The common part of commands: their imports, and a record that is made, written and said."""

import dis
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import Annotated, Any, Literal, Never, TypedDict

import click

from layerwise.api import named
from layerwise.cli.launch import is_first, together
from layerwise.cli.output import complain, publish, talk
from layerwise.files import prepare_output, write_atomic
from layerwise.interrupts import INTERRUPTED, handled
from layerwise.options.declaration import Option
from layerwise.options.groups import Writing

REPORT = "report.html"
MESSAGE = "interrupted; no file was half written"


class OutputFormat(TypedDict, total=False):
    """What is said."""

    format: Annotated[
        Literal["human", "json", "quiet"], Option("What goes to standard output.", "human")
    ]


class Results(Writing, OutputFormat, total=False):
    """What becomes of a result."""


class Opening(TypedDict, total=False):
    """The report in a browser."""

    open: Annotated[bool, Option("Open the report in a browser.", default=False)]


class Charts(Opening, total=False):
    """What is drawn."""

    charts: Annotated[bool, Option("Each chart as PNG and SVG too.", default=False)]


class Page(Opening, total=False):
    """A report of what is otherwise only said."""

    html: Annotated[Path | None, Option("Write the report there too.", metavar="FILE")]


@contextmanager
def importing() -> Iterator[None]:
    """Inside, a signal ends the process at once, as nothing has been written yet.

    An exception in the middle of an import reaches no one: compiled modules abort on it, lazy ones
    report that a package is missing.
    """

    def leave(_number: int, _frame: FrameType | None) -> Never:
        complain(MESSAGE)
        os._exit(INTERRUPTED)

    with handled(leave):
        yield


def import_for(*functions: Callable[..., Any]) -> None:
    """Import reports and what `functions` of the API would, before they do any work."""
    with importing():
        for name in ("layerwise.report", *(name for each in functions for name in _imports(each))):
            import_module(name)


def _imports(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the modules that a function of the API imports in its body, or opens models with."""
    code = inspect.unwrap(function).__code__
    yield from (step.argval for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME")
    for called in map(vars(named).get, code.co_names):
        if inspect.isfunction(called):
            yield from _imports(called)


def produce(
    make: Callable[..., Any],
    options: dict[str, Any],
    *,
    needs: Callable[..., Any],
    record: str,
    several: bool = True,
    files: Callable[[Any, Path], Mapping[str, bytes]] | None = None,
) -> Any:
    """Return a record that is made, written with its report, and shown.

    Args:
        make: Gives the record, from ``progress`` and the options that are left.
        options: All that the command got; ``out`` is where the record goes.
        needs: The function of the API that `make` calls.
        record: The name of the record's file.
        several: Whether processes that were launched together share the work.
        files: Gives all files of the record for a folder; its JSON alone where None.
    """
    folder, overwrite, form, charts, opened = (
        options.pop(name) for name in ("out", "overwrite", "format", "charts", "open")
    )
    if is_first():
        prepare_output(folder, holds=record, overwrite=overwrite, beside=REPORT)
    import_for(needs)
    from layerwise import report

    report.check_charts(wanted=charts)
    with talk(form) as progress, together(options.get("device", ""), several=several) as device:
        if "device" in options:
            options["device"] = device
        if "progress" in inspect.signature(needs).parameters:
            options["progress"] = progress
        made = make(**options)
        if is_first() or not several:
            own = {record: made.to_json()} if files is None else files(made, folder)
            drawn = report.files(made, charts=charts)
            table = report.terminal(made)
            publish({**own, **drawn}, record=record, out=folder, form=form, table=table)
            open_report(folder / REPORT, wanted=opened)
    return made


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


def open_report(file: Path, *, wanted: bool) -> None:
    """Open the page `file` in a browser where that is `wanted`; say so where there is none."""
    if not wanted:
        return
    import webbrowser

    if not webbrowser.open(file.resolve().as_uri()):
        click.echo(f"layerwise: no browser was found to open {file}", err=True)
