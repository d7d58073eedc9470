"""`layerwise measure MODEL DATA`: rival placements fine-tuned at an equal budget."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerwise.cli.control import Seeds
from layerwise.cli.interrupt import importing
from layerwise.cli.options import (
    Names,
    charts,
    common_with,
    count,
    objective,
    parts_of,
    reading,
    stacked,
)
from layerwise.cli.output import listed, publish, say, short, talk
from layerwise.errors import BadInputError, OutputError
from layerwise.files import lock_of, prepare_output, remove, write_files

if TYPE_CHECKING:
    from layerwise.card.record import LayerCard
    from layerwise.measure.record import Measure

__all__ = ["measure"]

log = logging.getLogger(__name__)

EXAMPLES = """\b
Examples:
  layerwise measure demo demo --where source=rotten_tomatoes --examples 400 --steps 40
  layerwise measure org/model reviews.csv --card model-card -k 5 --seeds 0,1,2,3,4
  layerwise measure org/model qa.jsonl --prompt-column question --quality rouge
  layerwise measure org/model text.txt --quality harness:hellaswag/acc_norm --limit 200
  layerwise measure org/model text.txt --arms uniform,random,all --ladder 1e-4,1e-3
"""

RESULT = "measure.json"
#: Trials of a measurement that has not ended.
TRIALS = "trials.jsonl"


class Rates(click.ParamType[tuple[float, ...]]):
    """Learning rates separated by commas, or a YAML list of them."""

    name = "rates"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """`value` as a tuple of different numbers above 0, at least one."""
        try:
            rates = tuple(float(part) for part in parts_of(value))
        except ValueError:
            self.fail(f"{value!r} is not a list of rates, such as 1e-4,1e-3", param, ctx)
        if not rates or len(set(rates)) < len(rates) or not all(0 < rate < 1e3 for rate in rates):
            self.fail(f"{value!r}: each rate is wanted once, and above 0", param, ctx)
        return rates


_measuring = stacked(
    click.option(
        "--card",
        type=click.Path(path_type=Path),
        metavar="CARD",
        help="The model's card, which gets the results.  [default: one is made for the purpose]",
    ),
    click.option(
        "--quality",
        default="loss",
        show_default=True,
        metavar="NAME",
        help="What is to get better: loss, accuracy, exact-match, bleu, chrf, rouge or "
        "harness:TASK of lm-evaluation-harness.",
    ),
    click.option(
        "-k", "--layers", type=int, metavar="N", help="Blocks a placement.  [default: a sixth]"
    ),
    click.option("--rank", type=int, metavar="N", help="LoRA rank.  [default: the card's]"),
    click.option(
        "--arms",
        type=Names(),
        metavar="A,B",
        help="What is compared: recommended, a goal or policy of `layerwise place`, eva, kappa, "
        "snr, gradient, random, low-rank, all.  [default: every one]",
    ),
    count("--draws", default=5, least=0, told="Random placements."),
    click.option(
        "--seeds",
        type=Seeds(),
        default="0,1,2",
        show_default=True,
        metavar="0,1,2",
        help="Of the trials: the same batches for every arm.",
    ),
    click.option(
        "--ladder",
        type=Rates(),
        default="2e-4,6e-4,2e-3",
        show_default=True,
        metavar="A,B",
        help="Learning rates that each arm chooses from.",
    ),
    count("--eval-examples", default=64, told="Examples that score, and as many for the ladder."),
    count("--limit", default=None, told="Examples of a harness task that are asked."),
)

_training = stacked(
    objective,
    count("--steps", default=100, told="Optimizer steps."),
    count("--accumulation", default=1, told="Batches that one step sums up."),
    click.option("--bf16", is_flag=True, help="Forward and backward under bfloat16 autocast."),
    click.option(
        "--gradient-checkpointing", is_flag=True, help="Recompute activations in the backward."
    ),
)


@click.command("measure", short_help="Fine-tune rival placements, compare.", epilog=EXAMPLES)
@click.argument("model")
@click.argument("data")
@common_with(batch_size=8, examples=None)
@reading
@_measuring
@_training
@charts
@click.option("--resume", is_flag=True, help="Take the trials that a run cut short left in --out.")
def measure(model: str, data: str, **options: Any) -> None:
    """Fine-tune rival placements of adapters in MODEL on DATA at an equal budget.

    Every arm has adapters of the same size, makes the same steps on the same batches, and chooses
    its learning rate on text and a seed that score nobody. MODEL and DATA are as for
    `layerwise card`. The recommended placement is held against all others, with intervals over
    the seeds: better, worse, or no difference.

    Writes measure.json and report.html; with --card, adds the results to that card and its
    report. Until then trials.jsonl has every trial that has ended, for --resume.
    """
    out = options.pop("out") or Path(f"{short(model)}-measure")
    overwrite, form, charts = (options.pop(name) for name in ("overwrite", "form", "charts"))
    _refuse_several()
    kept = _kept(out, resume=options.pop("resume"), overwrite=overwrite)
    card = options["card"]
    home = None if card is None else _writable(card)
    with importing():
        from layerwise import api, report
        from layerwise.card.record import LayerCard
    with talk(form) as progress:
        if card is not None:
            options["card"] = LayerCard.load(card)
        made = api.measure(model, data, kept=kept, progress=progress, **options)
        files, table = _files(made, charts=charts), report.terminal(made)
        publish(files, record=RESULT, out=out, form=form, table=table)
        for path in (kept, lock_of(kept)):
            remove(path, inside=out)
        if home is not None:
            held = write_files(home, _card_files(api.measured(options["card"], made), home))
            say(form, human=[listed(held)], json=b"")


def _kept(out: Path, *, resume: bool, overwrite: bool) -> Path:
    """The file of trials in `out`, where nothing would be lost that was not given up.

    Raises:
        OutputError: Otherwise.
    """
    kept = out / TRIALS
    prepare_output(out, holds=RESULT, overwrite=overwrite)
    if kept.exists() and not (resume or overwrite):
        message = "output folder holds trials of a measurement that was cut short"
        hint = "--resume to go on, --overwrite to begin again, or another --out FOLDER"
        raise OutputError(message, value=out, expected="an empty folder", hint=hint)
    if not resume:
        remove(kept, inside=out)
    return kept


def _writable(card: Path) -> Path:
    """The folder of the card, found writable before any work is spent on what goes there."""
    folder = card if card.is_dir() else card.parent
    return prepare_output(folder, holds=RESULT, overwrite=True)


def _refuse_several() -> None:
    """Trials take turns on one model: several processes would each do all of them."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        message = "processes that were launched together"
        value = os.environ["WORLD_SIZE"]
        raise BadInputError(message, value=value, expected="one", hint="layerwise measure ...")


def _files(made: "Measure", *, charts: bool) -> dict[str, bytes]:
    """What `layerwise measure` writes, by name."""
    from layerwise import report

    return {RESULT: made.to_json(), **report.files(made, charts=charts)}


def _card_files(card: "LayerCard", home: Path) -> dict[str, bytes]:
    """`card` and its report as they go into `home`: the report of a placement there stays."""
    from layerwise import report

    if (home / "placement.json").exists():  # It may be of an earlier card, which none can tell.
        log.info("layerwise place %s --overwrite draws the results into its report", home)
        return card.files()
    return {**card.files(), "report.html": report.html(card)}
