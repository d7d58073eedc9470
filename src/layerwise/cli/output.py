"""What is said, and where: results on standard output, log and progress on standard error."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from layerwise.errors import BadInputError, one_line
from layerwise.files import write_files
from layerwise.progress import Progress, silent

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")

Format = Literal["human", "json", "quiet"]

#: Work that is over sooner than this shows no bar, in seconds.
PATIENCE = 2.0

_LEVELS = {"human": logging.INFO, "json": logging.WARNING, "quiet": logging.ERROR}


def complain(message: str) -> None:
    """Say why the command ends, in one line."""
    click.echo(f"layerwise: error: {one_line(message, limit=1500)}", err=True)


def say(form: Format, *, human: Sequence["RenderableType"], json: bytes) -> None:
    """Print the result in the form asked for: tables and lines for people, or the record."""
    if form == "json":
        click.echo(json, nl=False)
    if form == "human":
        from rich.console import Console

        console = Console()
        for part in human:
            console.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))


def publish(
    files: Mapping[str, bytes], *, record: str, out: Path, form: Format, table: "RenderableType"
) -> None:
    """Write `files` into `out`, then say so: `table` for people, or the file called `record`."""
    written = write_files(out, files)
    say(form, human=[table, "", listed(written)], json=files[record])


def listed(paths: Iterable[Path]) -> str:
    """Return the files that were written, as a line."""
    return "Wrote " + ", ".join(map(str, paths))


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Inside, the libraries beneath keep their warnings and bars to themselves."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # Read when torch is imported.
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


class _LogHandler(logging.Handler):
    """Log records as lines on what is standard error at the time, above a bar if one is shown.

    What is said of data and model as they are read waits for the work to begin: bad input is told
    in a single line.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, or keep it for `tell`."""
        self.held.append(f"layerwise: {one_line(record.getMessage(), limit=1500)}")
        if not record.name.startswith(("layerwise.data", "layerwise.models")):
            self.tell()

    def tell(self) -> None:
        """Print what was kept."""
        for line in self.held:
            click.echo(line, err=True)
        self.held.clear()


@contextmanager
def talk(form: Format) -> Iterator[Progress]:
    """Inside, layerwise's log goes to standard error; the progress to hand to the library."""
    logger, handler = logging.getLogger("layerwise"), _LogHandler()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[form])
    shown = progress_bar if form != "quiet" and sys.stderr.isatty() else silent

    def begun(items: Iterable[T], title: str, total: int) -> Iterator[T]:
        handler.tell()
        return shown(items, title, total)

    try:
        yield begun
    except BadInputError:
        handler.held.clear()
        raise
    finally:
        handler.tell()
        logger.removeHandler(handler)
        logger.setLevel(before)


def progress_bar(items: Iterable[T], title: str, total: int) -> Iterator[T]:
    """`items`, with a bar and the time remaining once the whole looks longer than two seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    began = time.monotonic()
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, visible=False)
        for done, item in enumerate(items, start=1):
            yield item
            expected = (time.monotonic() - began) / done * max(total, done)
            bar.update(task, completed=done, visible=expected > PATIENCE)


def folder_of(card: Path) -> Path:
    """Return the folder that holds a card, named by itself or by its file."""
    return card if card.is_dir() else card.parent


def short(model: str) -> str:
    """Return the last part of a model's name, without revision and suffix."""
    last = Path(model.partition("@")[0]).resolve().name
    return last.removesuffix(".gguf") or "model"
