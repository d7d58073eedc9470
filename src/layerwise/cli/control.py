"""`layerwise control MODEL DATA`: standard against equal-step, intrinsic or gradient artefact."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.launch import is_first, together
from layerwise.cli.live import Listener, live
from layerwise.cli.options import charts, common_with, parts_of, reading, readout, stacked
from layerwise.cli.output import Format, publish, short, talk
from layerwise.cli.tune import training
from layerwise.files import prepare_output

if TYPE_CHECKING:
    from layerwise.profile.record import Control

__all__ = ["control"]

log = logging.getLogger(__name__)

EXAMPLES = """\b
Examples:
  layerwise control demo demo --where source=rotten_tomatoes --steps 60 --batch-size 8
  layerwise control org/model reviews.csv --seeds 0,1,2 --tau 1e-3
  layerwise control --runs runs/standard runs/equal-step --out verdict
  layerwise control --runs std0 equal0 --runs std1 equal1
"""

RESULT = "control.json"

#: What finished runs leave to choose.
_READING = (
    "probes", "readout", "stack", "seed", "device", "dtype", "trust_remote_code", "progress",
)  # fmt: skip


class Seeds(click.ParamType[tuple[int, ...]]):
    """Whole numbers separated by commas, or a YAML list of them."""

    name = "seeds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """`value` as a tuple of different numbers, at least one."""
        try:
            seeds = tuple(int(part) for part in parts_of(value))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers, such as 0,1,2", param, ctx)
        if not seeds or len(set(seeds)) < len(seeds):
            self.fail(f"{value!r}: each seed is wanted once", param, ctx)
        return seeds


_judging = stacked(
    click.option(
        "--runs",
        nargs=2,
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="STANDARD EQUAL_STEP",
        help="Finished runs in place of MODEL and DATA; may be repeated, a pair a seed.",
    ),
    click.option(
        "--seeds",
        type=Seeds(),
        default="0",
        show_default=True,
        metavar="0,1,2",
        help="Of the runs: data order, masks, dropout. A pair of runs each.",
    ),
    readout(default="hf", told="Which tensor stands for a depth."),
    click.option(
        "--probes",
        metavar="FILE",
        help="Text that the models are shown.  [default: the package's own]",
    ),
    click.option(
        "--stack", metavar="NAME", help="The stack of blocks.  [default: the last that reads text]"
    ),
    click.option("--keep-weights", is_flag=True, help="Keep the fine-tuned models too."),
)


@click.command("control", short_help="Intrinsic, or an artefact of step sizes?", epilog=EXAMPLES)
@click.argument("model", required=False)
@click.argument("data", required=False)
@common_with(batch_size=32, examples=None)
@reading
@_judging
@training
@charts
def control(model: str | None, data: str | None, **options: Any) -> None:
    """Fine-tune MODEL on DATA twice: as usual, and with equal relative steps in every block.

    A depth profile that keeps its slope under equal steps is the model's; one that loses it was
    made by the optimizer. MODEL and DATA are as for `layerwise card`. With --runs, two runs of
    `layerwise tune` are judged instead, the standard one first.

    Writes control.json, report.html, and the log and record of each run.
    """
    runs = options.pop("runs")
    _refuse_mixture(model, data, runs)
    form, charts, overwrite = (options.pop(name) for name in ("form", "charts", "overwrite"))
    out = options.pop("out") or Path(f"{short(model or str(runs[0][0]))}-control")
    if is_first():
        prepare_output(out, holds=RESULT, overwrite=overwrite)
    with importing():
        from layerwise import api
    with talk(form) as progress, together(options.pop("device")) as device:
        options |= {"device": device, "progress": progress}
        if runs or model is None or data is None:
            made = api.control_from_runs(*runs, **{name: options[name] for name in _READING})
        else:
            watch = partial(_watched, form, options["steps"], 2 * len(options["seeds"]), [0])
            options |= {"out": out, "overwrite": overwrite, "on_run": watch}
            made = api.control(model, data, **options)
        if is_first():
            _end(made, out, form, charts=charts)


def _refuse_mixture(model: str | None, data: str | None, runs: tuple[Any, ...]) -> None:
    """Either MODEL and DATA are given, or finished runs."""
    context = click.get_current_context()
    if runs and model is not None:
        msg = "MODEL and DATA have no meaning beside --runs"
        raise click.UsageError(msg, context)
    if not runs and data is None:
        msg = f"Missing argument '{'DATA' if model else 'MODEL'}', or --runs STANDARD EQUAL_STEP"
        raise click.UsageError(msg, context)


@contextmanager
def _watched(
    form: Format, steps: int, total: int, begun: list[int], condition: str, seed: int
) -> Iterator[Listener]:
    """The live display of one run, under its name."""
    begun[0] += 1
    log.info("run %d of %d: %s, seed %d", begun[0], total, condition, seed)
    with live(form, steps) as listener:
        yield listener


def _end(made: "Control", out: Path, form: Format, *, charts: bool) -> None:
    """Write the result and say it."""
    from layerwise import report

    files = {RESULT: made.to_json(), **report.files(made, charts=charts)}
    publish(files, record=RESULT, out=out, form=form, table=report.terminal(made))
