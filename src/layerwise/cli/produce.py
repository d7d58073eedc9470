"""What the commands that make a record have in common: prepare, make, write, say."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, TypeVar

from layerwise.cli.interrupt import importing
from layerwise.cli.launch import is_first, together
from layerwise.cli.output import publish, talk
from layerwise.files import prepare_output
from layerwise.options.declaration import Option
from layerwise.options.groups import Writing

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Charts", "Results", "Shown", "produce"]

T = TypeVar("T")


class Shown(TypedDict, total=False):
    """What is said."""

    format: Annotated[
        Literal["human", "json", "quiet"], Option("What goes to standard output.", "human")
    ]


class Results(Writing, Shown, total=False):
    """What becomes of a result."""


class Charts(TypedDict, total=False):
    """What is drawn."""

    charts: Annotated[bool, Option("Each chart as PNG and SVG too.", default=False)]


def produce(
    make: Callable[..., T],
    drawn: Callable[..., tuple[Mapping[str, bytes], "RenderableType"]],
    options: dict[str, Any],
    *,
    record: str,
    out: Path,
    needs: Sequence[str],
    several: bool = True,
) -> None:
    """Make a record, write it with what is drawn of it, and say so.

    Args:
        make: Gives the record, from the options that are left, and where there are some with
            ``device`` and ``progress``.
        drawn: Gives, of the record and whether ``charts`` are wanted, the files and the table.
        options: All that the command got.
        record: The name of the record's file.
        out: Where it goes if the options do not say.
        needs: Modules that are imported before anything is made.
        several: Whether processes that were launched together share the work.
    """
    folder = options.pop("out") or out
    overwrite, form, charts = (
        options.pop(name, False) for name in ("overwrite", "format", "charts")
    )
    if is_first():
        prepare_output(folder, holds=record, overwrite=overwrite)
    with importing():
        for name in (*needs, "layerwise.report"):
            import_module(name)
    with talk(form) as progress, together(options.pop("device", "auto"), several=several) as device:
        made = make(progress=progress, device=device, **options)
        if is_first() or not several:
            files, table = drawn(made, charts=charts)
            publish(files, record=record, out=folder, form=form, table=table)
