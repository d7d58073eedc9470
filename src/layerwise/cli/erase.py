"""`layerwise erase MODEL PAIRS`: LEACE at each depth, against a random control."""

from pathlib import Path
from typing import Any

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.options import common_with, count
from layerwise.cli.output import publish, short, talk
from layerwise.cli.probe import depthwise
from layerwise.files import prepare_output

__all__ = ["erase"]

EXAMPLES = """\b
Examples:
  layerwise erase demo demo
  layerwise erase org/model pairs.jsonl --draws 100
  layerwise erase ./adapter pairs.jsonl --readout residual --device cuda

A line of PAIRS: {"a": "The plot is dull.", "b": "The plot is gripping."}
"""

RESULT = "erase.json"


@click.command("erase", short_help="What erasing a concept does at each depth.", epilog=EXAMPLES)
@click.argument("model")
@click.argument("pairs")
@common_with(batch_size=32, max_length=64, examples=None)
@count(
    "--folds",
    default=5,
    least=2,
    told="Parts of the pairs; each is judged by an eraser of the others.",
)
@count("--draws", default=20, told="Random directions that the eraser is held against.")
@click.option(
    "--standardise", is_flag=True, help="Divide each feature by its standard deviation first."
)
@depthwise
def erase(model: str, pairs: str, **options: Any) -> None:
    """Erase from each depth of MODEL what tells the members of minimal pairs apart.

    PAIRS is a JSON Lines file with the texts "a" and "b" on each line, or demo. The effect is by
    how much the members of pairs move together that the eraser was not fitted on; the control
    erases a random direction of the same energy. No weight of MODEL moves.

    Writes erase.json and report.html.
    """
    out = options.pop("out") or Path(f"{short(model)}-erase")
    form = options.pop("form")
    prepare_output(out, holds=RESULT, overwrite=options.pop("overwrite"))
    with importing():
        from layerwise import api, report
    with talk(form) as progress:
        made = api.erase(model, pairs, progress=progress, **options)
    files = {RESULT: made.to_json(), **report.files(made, charts=False)}
    publish(files, record=RESULT, out=out, form=form, table=report.terminal(made))
