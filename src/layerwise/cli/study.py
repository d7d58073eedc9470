"""`layerwise study run|status|table`: a matrix of runs that survives."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.options import choice, form
from layerwise.cli.output import Format, listed, say, talk
from layerwise.files import canonical_json, prepare_output, write_files

if TYPE_CHECKING:
    from layerwise.study.status import Status

__all__ = ["study"]

log = logging.getLogger(__name__)

EXAMPLES = """\b
Examples:
  layerwise study run pocket.yaml --workers 2
  layerwise study run matrix.yaml --engine ray --address auto --workers 16 --out /shared/matrix
  layerwise study status pocket-study
  layerwise study table pocket-study --out tables

Exit status of run: 0 all done, 3 some runs failed, 130 interrupted; run again to go on.
"""

FAILED = 3
"""The exit status of a study some of whose runs failed."""

#: Seconds that lie at least between two lines, and at most while something happens.
_SOONEST, _LATEST = 5.0, 60.0


@click.group("study", short_help="Run a matrix of runs, and go on with it.", epilog=EXAMPLES)
def study() -> None:
    """Run a matrix of models, objectives, conditions, placements and seeds.

    A study is a YAML file; each run is a folder in its ledger. Runs with a result are never run
    again, so a study that was stopped, however it was, goes on where it was.
    """


@study.command("run", epilog=EXAMPLES)
@click.argument("source", metavar="STUDY.yaml", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="LEDGER",
    help="The ledger's folder.  [default: NAME-study]",
)
@choice("--engine", of=("local", "ray", "slurm"), default="local", told="Where runs happen.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs at once.  [default: 1; with ray, as many as fit]",
)
@click.option("--address", metavar="ADDRESS", help="Of a Ray cluster.  [default: a local one]")
@click.option("--cpus", type=click.IntRange(min=1), metavar="N", help="Cores of a run; ray, slurm.")
@click.option("--gpus", type=click.IntRange(min=0), metavar="N", help="GPUs of a run; ray, slurm.")
@click.option("--partition", metavar="NAME", help="Where slurm sends runs.")
@click.option("--minutes", type=click.IntRange(min=1), metavar="N", help="A run's time; slurm.")
@click.option("--memory-gb", type=click.IntRange(min=1), metavar="N", help="Its memory; slurm.")
@click.option("--retry-failed", is_flag=True, help="Run again what failed before.")
@click.option(
    "--trust-remote-code", is_flag=True, help="Run code that the models' repositories bring."
)
@form
def run(source: Path, form: Format, **options: Any) -> None:
    """Run what STUDY.yaml has and its ledger has not.

    Before anything runs, all runs that cannot work are refused together.
    """
    with importing():
        from layerwise import api
    with talk(form), _live(form) as on_change:
        status = api.study(source, on_change=on_change, **options)
    _tell(form, status)
    if status.done < status.total:
        raise click.exceptions.Exit(FAILED)


@study.command("status")
@click.argument("source", metavar="LEDGER|STUDY.yaml", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="LEDGER",
    help="The ledger of STUDY.yaml.  [default: NAME-study]",
)
@form
def status(source: Path, out: Path | None, form: Format) -> None:
    """What is done, running, waiting and failed, and the time left."""
    from layerwise.study.status import status_of

    found = status_of(source, out=out)
    _tell(form, found)


@study.command("table")
@click.argument("ledger", metavar="LEDGER", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where tables go.  [default: LEDGER-tables]",
)
@form
def table(ledger: Path, out: Path | None, form: Format) -> None:
    """The results as CSV and Parquet, and what they come to over seeds.

    Equal results give equal files, however often the study was stopped.
    """
    from layerwise.study.ledger import open_ledger
    from layerwise.study.table import as_files, tables

    book = open_ledger(ledger)
    frames = tables(book)
    files, folder = as_files(frames), out or Path(f"{ledger.resolve().name}-tables")
    written = write_files(prepare_output(folder, holds="runs.csv", overwrite=True), files)
    lines = {name: content.count(b"\n") - 1 for name, content in files.items() if ".csv" in name}
    told = ", ".join(f"{rows:,} rows of {name}" for name, rows in lines.items())
    human: list[Any] = [told, listed(written)]
    if form == "human" and len(frames["summary"]):
        from layerwise.report import terminal
        from layerwise.report.documents.study_summary import document

        human = [terminal(document(frames["summary"], title=ledger.resolve().name)), "", *human]
    say(form, human=human, json=canonical_json({"rows": lines}))


def _tell(form: Format, status: "Status") -> None:
    """Show a status to people, or print it."""
    from layerwise.report import terminal

    say(form, human=[terminal(status)] if form == "human" else [], json=status.to_json())


# --- While it runs ----------------------------------------------------------------------------


@contextmanager
def _live(form: Format) -> Iterator[Callable[["Status"], None]]:
    """What is to hear of each change, and shows it while inside."""
    if form != "human":
        yield lambda _status: None
    elif sys.stderr.isatty():
        with _display() as listener:
            yield listener
    else:
        yield _Lines()


def _went(status: "Status") -> tuple[str, str]:
    """Return what has become of the runs, and the time left."""
    from layerwise.report.documents.study_status import duration, state_counts

    left = f", about {duration(status.seconds_left)} left" if status.seconds_left else ""
    return state_counts(status), left


@dataclass
class _Lines:
    """Says a line when something has changed, not too often."""

    clock: Callable[[], float] = time.monotonic
    said: float = float("-inf")
    done: int = -1

    def __call__(self, status: "Status") -> None:
        """Hear of a change."""
        now = self.clock()
        waited = now - self.said
        if waited >= _LATEST or (waited >= _SOONEST and status.done != self.done):
            self.said, self.done = now, status.done
            log.info("%s%s", *_went(status))


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
