"""`layerwise probe MODEL DATA`: what linear and MLP probes read at each depth."""

from pathlib import Path
from typing import Any

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.options import common_with, count, readout, stacked
from layerwise.cli.output import publish, short, talk
from layerwise.files import prepare_output

__all__ = ["depthwise", "probe"]

EXAMPLES = """\b
Examples:
  layerwise probe demo demo
  layerwise probe org/model reviews.csv --label-column stars --examples 5000
  layerwise probe ./adapter reviews.csv --readout residual --device cuda
"""

RESULT = "probe.json"

#: How a model is looked at, as `erase` takes it too.
depthwise = stacked(
    readout(default="hf", told="Which tensor stands for a depth."),
    click.option(
        "--stack", metavar="NAME", help="The stack of blocks.  [default: the last that reads text]"
    ),
    click.option(
        "--trust-remote-code", is_flag=True, help="Run code that the model's repository brings."
    ),
)


@click.command("probe", short_help="What can be read from each depth.", epilog=EXAMPLES)
@click.argument("model")
@click.argument("data")
@common_with(batch_size=32, examples=1000)
@click.option("--text-column", metavar="NAME", help="The text.  [default: found by its name]")
@click.option(
    "--label-column", default="label", show_default=True, metavar="NAME", help="The class."
)
@click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE", help="Only such rows; may be repeated."
)
@count("--epochs", default=20, told="Passes of a probe over its examples.")
@click.option(
    "--test-share",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    metavar="X",
    help="Share of each class that probes are judged on.",
)
@depthwise
def probe(model: str, data: str, **options: Any) -> None:
    """Train small classifiers of DATA's labels on each depth's representation in MODEL.

    No weight of MODEL moves. MODEL and DATA are as for `layerwise card`; accuracies are of
    examples that the classifiers did not see.

    Writes probe.json and report.html.
    """
    out = options.pop("out") or Path(f"{short(model)}-probe")
    form = options.pop("form")
    prepare_output(out, holds=RESULT, overwrite=options.pop("overwrite"))
    with importing():
        from layerwise import api, report
    with talk(form) as progress:
        made = api.probe(model, data, progress=progress, **options)
    files = {RESULT: made.to_json(), **report.files(made, charts=False)}
    publish(files, record=RESULT, out=out, form=form, table=report.terminal(made))
