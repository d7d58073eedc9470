"""`layerwise card MODEL DATA`: one pass, the Layer Card."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.launch import is_first, together
from layerwise.cli.options import Names, charts, common, count, objective, reading, readout, stacked
from layerwise.cli.output import publish, short, talk
from layerwise.files import prepare_output
from layerwise.signals import SIGNALS

if TYPE_CHECKING:
    pass

__all__ = ["card"]

log = logging.getLogger(__name__)

EXAMPLES = """\b
Examples:
  layerwise card demo demo
  layerwise card org/model reviews.csv --text-column review --where stars=5
  layerwise card ./adapter chats.jsonl --examples 256 --device cuda --out cards/adapter
"""

_measuring = stacked(
    objective,
    click.option(
        "--signals",
        type=Names(),
        metavar="A,B",
        help=f"Only these columns, of {', '.join(SIGNALS)}.  [default: all]",
    ),
    count("--rank", default=8, told="Adapter rank that is simulated."),
    click.option(
        "--targets",
        type=Names(),
        metavar="A,B",
        help="Modules adapted in each block, such as q_proj,v_proj.  [default: the model's usual]",
    ),
    readout(default="residual", told="Which tensor stands for a block's output."),
    click.option(
        "--exact-entropy",
        is_flag=True,
        help="Attention entropy from every query row, not from a sample.",
    ),
)


@click.command("card", short_help="Measure a model on some text, block by block.", epilog=EXAMPLES)
@click.argument("model")
@click.argument("data")
@common
@reading
@_measuring
@charts
def card(model: str, data: str, **options: Any) -> None:
    """Measure, per block of MODEL on DATA, what adapting it would correct and what it would cost.

    MODEL is a hub id (org/name, org/name@revision), a folder, a .gguf file, a PEFT adapter folder,
    or demo. DATA is a hub data set (name, name:split, name:config:split), a .jsonl, .csv, .parquet
    or .txt file, a folder of those, or demo.

    Writes card.json, report.html and arrays.safetensors.
    """
    out = options.pop("out") or Path(f"{short(model)}-card")
    overwrite, form, charts = (options.pop(name) for name in ("overwrite", "form", "charts"))
    if is_first():
        prepare_output(out, holds="card.json", overwrite=overwrite)
    with importing():
        from layerwise import api, report
    with talk(form) as progress, together(options.pop("device")) as device:
        made = api.card(model, data, device=device, progress=progress, **options)
        if is_first():
            files = {**made.files(), **report.files(made, charts=charts)}
            publish(files, record="card.json", out=out, form=form, table=report.terminal(made))
            _tell_of_older(out)


def _tell_of_older(out: Path) -> None:
    """Say so where a placement from the card that was replaced still lies there."""
    if (out / "placement.json").exists():
        log.info("placement.json is of an earlier card; layerwise place %s --overwrite", out)
