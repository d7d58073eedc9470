"""`layerwise control MODEL DATA`: standard against equal-step, intrinsic or gradient artefact."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import click

import layerwise as lw
from layerwise.cli.derive import command
from layerwise.cli.live import Listener, live
from layerwise.cli.output import Format, short
from layerwise.cli.produce import Charts, OutputFormat, produce
from layerwise.options.commands import ControlOptions, FinishedOptions
from layerwise.options.declaration import pick

log = logging.getLogger(__name__)

_RUNS = click.Option(
    ["--runs"],
    nargs=2,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="STANDARD EQUAL_STEP",
    help="Finished runs in place of MODEL and DATA; may be repeated, a pair a seed.",
)


@command(
    *(OutputFormat, ControlOptions, Charts),
    arguments={"model": "[MODEL]", "data": "[DATA]"},
    beside=(_RUNS,),
    short_help="Intrinsic, or an artefact of step sizes?",
    examples=(
        "layerwise control demo demo --where source=rotten_tomatoes --steps 60 --batch-size 8",
        "layerwise control org/model reviews.csv --seeds 0,1,2 --tau 1e-3",
        "layerwise control --runs runs/standard runs/equal-step --out verdict",
        "layerwise control --runs std0 equal0 --runs std1 equal1",
    ),
)
def control(
    model: str | None, data: str | None, runs: tuple[tuple[Path, Path], ...], **options: Any
) -> None:
    """Fine-tune MODEL on DATA twice: as usual, and with equal relative steps in every block.

    A depth profile that keeps its slope under equal steps is the model's; one that loses it was
    made by the optimizer. MODEL and DATA are as for `layerwise card`. With --runs, two runs of
    `layerwise tune` are judged instead, the standard one first.

    Writes control.json, report.html, and the log and record of each run.
    """
    context = click.get_current_context()
    if runs and model is not None:
        msg = "MODEL and DATA have no meaning beside --runs"
        raise click.UsageError(msg, context)
    if not runs and data is None:
        msg = f"Missing argument '{'DATA' if model else 'MODEL'}', or --runs STANDARD EQUAL_STEP"
        raise click.UsageError(msg, context)
    out = options["out"] or Path(f"{short(model or str(runs[0][0]))}-control")

    def make(**chosen: Any) -> Any:
        if model is None or data is None:
            return lw.control_from_runs(
                *runs, progress=chosen["progress"], **pick(FinishedOptions, chosen)
            )
        total = 2 * len(chosen["seeds"])
        watch = partial(_watched, options["format"], chosen["steps"], total, count(1))
        chosen |= {"out": out, "overwrite": options["overwrite"], "on_run": watch}
        return lw.control(model, data, **chosen)

    needs = lw.control_from_runs if runs else lw.control
    produce(make, {**options, "out": out}, needs=needs, record="control.json")


@contextmanager
def _watched(
    form: Format, steps: int, total: int, runs: Iterator[int], condition: str, seed: int
) -> Iterator[Listener]:
    """The live display of one run, under its name."""
    log.info("run %d of %d: %s, seed %d", next(runs), total, condition, seed)
    with live(form, steps) as listener:
        yield listener
