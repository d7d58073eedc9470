"""`layerwise distance MODEL DATA`: how far apart objectives are, with no training."""

from pathlib import Path
from typing import Any

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.launch import is_first, together
from layerwise.cli.options import Names, common_with, stacked
from layerwise.cli.output import publish, short, talk
from layerwise.files import prepare_output

__all__ = ["distance"]

EXAMPLES = """\b
Examples:
  layerwise distance demo demo --where source=rotten_tomatoes
  layerwise distance org/model reviews.csv --objectives causal-lm,simcse --examples 64000
  layerwise distance org/encoder texts.txt --reference simcse --device cuda
"""

RESULT = "distance.json"

_comparing = stacked(
    click.option(
        "--objectives",
        type=Names(),
        metavar="A,B",
        help="What is compared.  [default: all that the model can do]",
    ),
    click.option(
        "--reference",
        metavar="NAME",
        help="The objective they are compared with.  [default: masked-lm or causal-lm]",
    ),
    click.option("--text-column", metavar="NAME", help="The text.  [default: found by its name]"),
    click.option(
        "--where", multiple=True, metavar="COLUMN=VALUE", help="Only such rows; may be repeated."
    ),
    click.option(
        "--trust-remote-code", is_flag=True, help="Run code that the model's repository brings."
    ),
)


@click.command("distance", short_help="How far apart objectives are at a model.", epilog=EXAMPLES)
@click.argument("model")
@click.argument("data")
@common_with(batch_size=32, examples=1000)
@_comparing
def distance(model: str, data: str, **options: Any) -> None:
    """Compare the gradients of objectives at MODEL on DATA with those of a reference objective.

    No weight moves: for each example, the gradient that an objective sends into the last hidden
    state is set beside the reference's. MODEL and DATA are as for `layerwise card`.

    Writes distance.json and report.html.
    """
    out = options.pop("out") or Path(f"{short(model)}-distance")
    overwrite, form = (options.pop(name) for name in ("overwrite", "form"))
    if is_first():
        prepare_output(out, holds=RESULT, overwrite=overwrite)
    with importing():
        from layerwise import api, report
    with talk(form) as progress, together(options.pop("device")) as device:
        made = api.distance(model, data, device=device, progress=progress, **options)
        if is_first():
            files = {RESULT: made.to_json(), **report.files(made, charts=False)}
            publish(files, record=RESULT, out=out, form=form, table=report.terminal(made))
