"""`layerwise study run|status|table`: a matrix of runs that survives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import click

import layerwise as lw
from layerwise.cli.derive import command, epilog
from layerwise.cli.live import SpacedLines, listening
from layerwise.cli.output import Format, listed, say, talk
from layerwise.cli.produce import OutputFormat, Page, import_for, put_page
from layerwise.files import canonical_json, prepare_output, write_files
from layerwise.options.commands import StatusOptions, StudyOptions
from layerwise.options.declaration import Option

if TYPE_CHECKING:
    from layerwise.study.status import Status

EXAMPLES = (
    "layerwise study run pocket.yaml --workers 2",
    "layerwise study run matrix.yaml --engine ray --address auto --workers 16 --out /shared/matrix",
    "layerwise study status pocket-study",
    "layerwise study table pocket-study --out tables",
)
EXIT = "Exit status of run: 0 all done, 3 some runs failed, 130 interrupted; run again to go on."

FAILED = 3
"""The exit status of a study some of whose runs failed."""


@click.group(
    "study", short_help="Run a matrix of runs, and go on with it.", epilog=epilog(EXAMPLES, EXIT)
)
def study() -> None:
    """Run a matrix of models, objectives, conditions, placements and seeds.

    A study is a YAML file; each run is a folder in its ledger. Runs with a result are never run
    again, so a study that was stopped, however it was, goes on where it was.
    """


class Tables(TypedDict, total=False):
    """Where the tables of a study go."""

    out: Annotated[Path | None, Option("Where tables go.", unset="LEDGER-tables", metavar="DIR")]


@command(
    *(StudyOptions, OutputFormat),
    arguments={"source": "STUDY.yaml"},
    within=study,
    examples=EXAMPLES,
    note=EXIT,
)
def run(source: str, **options: Any) -> None:
    """Run what STUDY.yaml has and its ledger has not.

    Before anything runs, all runs that cannot work are refused together.
    """
    form = options.pop("format")
    import_for(lw.study)
    lines = SpacedLines(lambda status: "".join(_went(status)), mark=lambda status: status.done)
    with talk(form), listening(form, _display(), lines) as on_change:
        status = lw.study(source, on_change=on_change, **options)
    _tell(form, status)
    if status.done < status.total:
        raise click.exceptions.Exit(FAILED)


@command(
    *(StatusOptions, OutputFormat, Page), arguments={"source": "LEDGER|STUDY.yaml"}, within=study
)
def status(source: str, **options: Any) -> None:
    """Show what is done, running, waiting and failed, and the time left."""
    found = lw.study_status(source, out=options["out"])
    _tell(options["format"], found)
    put_page(found, file=options["html"], wanted=options["open"])


@command(*(Tables, OutputFormat), arguments={"ledger": "LEDGER"}, within=study)
def table(ledger: str, **options: Any) -> None:
    """The results as CSV and Parquet, and what they come to over seeds.

    Equal results give equal files, however often the study was stopped.
    """
    from layerwise.study.ledger import open_ledger
    from layerwise.study.table import as_files, tables

    where = Path(ledger)
    frames = tables(open_ledger(where))
    files, folder = as_files(frames), options["out"] or Path(f"{where.resolve().name}-tables")
    written = write_files(prepare_output(folder, holds="runs.csv", overwrite=True), files)
    lines = {name: content.count(b"\n") - 1 for name, content in files.items() if ".csv" in name}
    told = ", ".join(f"{rows:,} rows of {name}" for name, rows in lines.items())
    human: list[Any] = [told, listed(written)]
    if options["format"] == "human" and len(frames["summary"]):
        from layerwise.report import terminal
        from layerwise.report.documents.study_summary import document

        human = [terminal(document(frames["summary"], title=where.resolve().name)), "", *human]
    say(options["format"], human=human, json=canonical_json({"rows": lines}))


def _tell(form: Format, status: "Status") -> None:
    """Show a status to people, or print it."""
    from layerwise.report import terminal

    say(form, human=[terminal(status)] if form == "human" else [], json=status.to_json())


# --- While it runs ----------------------------------------------------------------------------


def _went(status: "Status") -> tuple[str, str]:
    """Return what has become of the runs, and the time left."""
    from layerwise.report.documents.study_status import duration, state_counts

    left = f", about {duration(status.seconds_left)} left" if status.seconds_left else ""
    return state_counts(status), left


@contextmanager
def _display() -> Iterator[Callable[["Status"], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("study", total=None, told="")

        def listener(status: "Status") -> None:
            counts, left = _went(status)
            told = counts.partition(", ")[2] + left
            bar.update(task, completed=status.done, total=status.total, told=told)

        yield listener
