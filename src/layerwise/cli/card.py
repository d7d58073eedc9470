"""`layerwise card MODEL DATA`: one pass, the Layer Card."""

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise import api
from layerwise.cli.derive import command
from layerwise.cli.output import short
from layerwise.cli.produce import Charts, Results, produce
from layerwise.options.commands import CardOptions
from layerwise.signals import SIGNALS

if TYPE_CHECKING:
    from layerwise.card.record import LayerCard

__all__ = ["card"]

log = logging.getLogger(__name__)

EXAMPLES = """\b
Examples:
  layerwise card demo demo
  layerwise card org/model reviews.csv --text-column review --where stars=5
  layerwise card ./adapter chats.jsonl --examples 256 --device cuda --out cards/adapter
"""


@command(
    *(Results, CardOptions, Charts),
    arguments={"model": "MODEL", "data": "DATA"},
    names={"signals": SIGNALS},
    short_help="Measure a model on some text, block by block.",
    epilog=EXAMPLES,
)
def card(model: str, data: str, **options: Any) -> None:
    """Measure, per block of MODEL on DATA, what adapting it would correct and what it would cost.

    MODEL is a hub id (org/name, org/name@revision), a folder, a .gguf file, a PEFT adapter folder,
    or demo. DATA is a hub data set (name, name:split, name:config:split), a .jsonl, .csv, .parquet
    or .txt file, a folder of those, or demo.

    Writes card.json, report.html and arrays.safetensors.
    """
    out = options["out"] or Path(f"{short(model)}-card")
    needs = ("layerwise.card.make", "layerwise.models.load")
    make = partial(api.card, model, data)
    files = partial(_files, out)
    produce(make, options, record="card.json", out=out, needs=needs, files=files)


def _files(out: Path, made: "LayerCard") -> dict[str, bytes]:
    """Return the card and its arrays; say so where a placement from an older card lies there."""
    if (out / "placement.json").exists():
        log.info("placement.json is of an earlier card; layerwise place %s --overwrite", out)
    return made.files()
