"""`layerwise erase MODEL PAIRS`: LEACE at each depth, against a random control."""

from functools import partial
from pathlib import Path
from typing import Any

from layerwise import api
from layerwise.cli.derive import command
from layerwise.cli.output import short
from layerwise.cli.produce import Charts, Results, produce
from layerwise.options.commands import EraseOptions

__all__ = ["erase"]

EXAMPLES = """\b
Examples:
  layerwise erase demo demo
  layerwise erase org/model pairs.jsonl --draws 100
  layerwise erase ./adapter pairs.jsonl --readout residual --device cuda

A line of PAIRS: {"a": "The plot is dull.", "b": "The plot is gripping."}
"""


@command(
    *(Results, EraseOptions, Charts),
    arguments={"model": "MODEL", "pairs": "PAIRS"},
    short_help="What erasing a concept does at each depth.",
    epilog=EXAMPLES,
)
def erase(model: str, pairs: str, **options: Any) -> None:
    """Erase from each depth of MODEL what tells the members of minimal pairs apart.

    PAIRS is a JSON Lines file with the texts "a" and "b" on each line, or demo. The effect is by
    how much the members of pairs move together that the eraser was not fitted on; the control
    erases a random direction of the same energy. No weight of MODEL moves.

    Writes erase.json and report.html.
    """
    out = options["out"] or Path(f"{short(model)}-erase")
    make = partial(api.erase, model, pairs)
    needs = ("layerwise.probing.erase",)
    produce(make, options, record="erase.json", out=out, needs=needs, several=False)
