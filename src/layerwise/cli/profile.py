"""`layerwise profile BEFORE AFTER`: what moved, at which depth."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.launch import is_first, together
from layerwise.cli.options import charts, common_with, readout, stacked
from layerwise.cli.output import publish, short, talk
from layerwise.files import prepare_output

if TYPE_CHECKING:
    pass

__all__ = ["profile"]

EXAMPLES = """\b
Examples:
  layerwise profile demo runs/standard
  layerwise profile org/model ./adapter --readout residual
  layerwise profile org/model ./adapter --card model-card
  layerwise profile org/model@main org/model-tuned --probes questions.txt --device cuda
"""

RESULT = "profile.json"

_looking = stacked(
    readout(default="hf", told="Which tensor stands for a depth; the record has all three."),
    click.option(
        "--probes",
        metavar="DATA",
        help="Text that both are shown.  [default: 290 short statements of the package's own]",
    ),
    click.option(
        "--stack", metavar="NAME", help="The stack of blocks.  [default: the last that reads text]"
    ),
    click.option(
        "--card",
        type=click.Path(path_type=Path),
        metavar="CARD",
        help="A Layer Card of BEFORE: what it would have placed, beside where the adapter is.",
    ),
    click.option(
        "--trust-remote-code", is_flag=True, help="Run code that the model's repository brings."
    ),
)


@click.command("profile", short_help="What moved between two models, by depth.", epilog=EXAMPLES)
@click.argument("before")
@click.argument("after")
@common_with(batch_size=32, max_length=64, examples=290)
@_looking
@charts
def profile(before: str, after: str, **options: Any) -> None:
    """Compare, at every depth, what BEFORE and AFTER make of the same inputs.

    Both are models as for `layerwise card`. AFTER may be a PEFT adapter folder, which then goes
    onto BEFORE, its base: one copy of the weights is read. The adapter itself is audited too:
    which of its modules are dead, how much of its rank is used, how large it is by depth.

    Writes profile.json and report.html.
    """
    out = options.pop("out") or Path(f"{short(after)}-profile")
    overwrite, form, charts = (options.pop(name) for name in ("overwrite", "form", "charts"))
    if is_first():
        prepare_output(out, holds=RESULT, overwrite=overwrite)
    with importing():
        from layerwise import api, report
    with talk(form) as progress, together(options.pop("device")) as device:
        made = api.profile(before, after, device=device, progress=progress, **options)
        if is_first():
            files = {RESULT: made.to_json(), **report.files(made, charts=charts)}
            publish(files, record=RESULT, out=out, form=form, table=report.terminal(made))
