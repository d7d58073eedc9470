"""`layerwise measure MODEL DATA`: rival placements fine-tuned at an equal budget."""

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import layerwise as lw
from layerwise.cli.derive import command
from layerwise.cli.launch import launched
from layerwise.cli.output import folder_of, listed, say, short, talk
from layerwise.cli.produce import REPORT, Charts, Results, produce
from layerwise.errors import BadInputError, OutputError, SchemaError
from layerwise.files import lock_of, prepare_output, remove, write_files
from layerwise.options.commands import MeasureOptions
from layerwise.options.declaration import Option, defaults

if TYPE_CHECKING:
    from layerwise.card.record import LayerCard

log = logging.getLogger(__name__)

RESULT = "measure.json"
#: Trials of a measurement that has not ended.
TRIALS = "trials.jsonl"


@defaults(batch_size=8, examples=None)
class MeasureCommand(MeasureOptions, total=False):
    """A measurement on the command line: in smaller batches, and taken up again."""

    resume: Annotated[
        bool, Option("Take the trials that a run cut short left in --out.", default=False)
    ]


@command(
    *(Results, MeasureCommand, Charts),
    arguments={"model": "MODEL", "data": "DATA"},
    short_help="Fine-tune rival placements, compare.",
    examples=(
        "layerwise measure demo demo --where source=rotten_tomatoes --examples 400 --steps 40",
        "layerwise measure org/model reviews.csv --card model-card -k 5 --seeds 0,1,2,3,4",
        "layerwise measure org/model qa.jsonl --prompt-column question --quality rouge",
        "layerwise measure org/model text.txt --quality harness:hellaswag/acc_norm --limit 200",
        "layerwise measure org/model text.txt --arms uniform,random,all --ladder 1e-4,1e-3",
    ),
)
def measure(model: str, data: str, **options: Any) -> None:
    """Fine-tune rival placements of adapters in MODEL on DATA at an equal budget.

    Every arm has adapters of the same size, makes the same steps on the same batches, and chooses
    its learning rate on text and a seed that score nobody. MODEL and DATA are as for
    `layerwise card`. The recommended placement is held against all others, with intervals over
    the seeds: better, worse, or no difference.

    Writes measure.json and report.html; with --card, adds the results to that card and its
    report. Until then trials.jsonl has every trial that has ended, for --resume.
    """
    out = options["out"] = options["out"] or Path(f"{short(model)}-measure")
    if launched() > 1:  # Trials take turns on one model: each process would do all of them.
        message = "processes that were launched together"
        raise BadInputError(message, value=launched(), expected="one", hint="layerwise measure ...")
    kept = _kept(out, resume=options.pop("resume"), overwrite=options["overwrite"])
    card, home, form = options["card"], None, options["format"]
    if card is not None:  # Found writable before any work is spent on what goes there.
        home = prepare_output(folder_of(card), holds=RESULT, overwrite=True)
    make = partial(lw.measure, model, data, kept=kept)
    made = produce(make, options, needs=lw.measure, record=RESULT, several=False)
    for path in (kept, lock_of(kept)):
        remove(path, inside=out)
    if home is not None:
        from layerwise.card.record import LayerCard

        with talk(form):
            held = write_files(home, _card_files(lw.measured(LayerCard.load(card), made), home))
            say(form, human=[listed(held)], json=b"")


def _kept(out: Path, *, resume: bool, overwrite: bool) -> Path:
    """Return the file of trials in `out`, where nothing would be lost that was not given up."""
    kept = out / TRIALS
    prepare_output(out, holds=RESULT, overwrite=overwrite, beside=REPORT)
    if kept.exists() and not (resume or overwrite):
        message = "output folder holds trials of a measurement that was cut short"
        hint = "--resume to go on, --overwrite to begin again, or another --out FOLDER"
        raise OutputError(message, value=out, expected="an empty folder", hint=hint)
    if not resume:
        remove(kept, inside=out)
    return kept


def _card_files(card: "LayerCard", home: Path) -> dict[str, bytes]:
    """`card` and its report as they go into `home`; a placement by this card is drawn there too."""
    from layerwise import report
    from layerwise.placement.cost import is_of
    from layerwise.placement.record import Placement

    file, placed = home / "placement.json", None
    if file.exists():
        try:
            placed = Placement.load(file)
        except SchemaError as error:  # What was measured is not lost for that.
            log.warning("%s", error)
        if placed is not None and not is_of(placed, card):
            log.warning("%s is not by this card, and not in its report", file)
            placed = None
    return {**card.files(), **report.files(card, charts=False, placement=placed)}
