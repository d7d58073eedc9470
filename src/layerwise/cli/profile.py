"""`layerwise profile BEFORE AFTER`: what moved, at which depth."""

from functools import partial
from pathlib import Path
from typing import Any

from layerwise import api
from layerwise.cli.derive import command
from layerwise.cli.output import short
from layerwise.cli.produce import Charts, Results, produce
from layerwise.options.commands import ProfileOptions

__all__ = ["profile"]

EXAMPLES = """\b
Examples:
  layerwise profile demo runs/standard
  layerwise profile org/model ./adapter --readout residual
  layerwise profile org/model ./adapter --card model-card
  layerwise profile org/model@main org/model-tuned --probes questions.txt --device cuda
"""


@command(
    *(Results, ProfileOptions, Charts),
    arguments={"before": "BEFORE", "after": "AFTER"},
    short_help="What moved between two models, by depth.",
    epilog=EXAMPLES,
)
def profile(before: str, after: str, **options: Any) -> None:
    """Compare, at every depth, what BEFORE and AFTER make of the same inputs.

    Both are models as for `layerwise card`. AFTER may be a PEFT adapter folder, which then goes
    onto BEFORE, its base: one copy of the weights is read. The adapter itself is audited too:
    which of its modules are dead, how much of its rank is used, how large it is by depth.

    Writes profile.json and report.html.
    """
    out = options["out"] or Path(f"{short(after)}-profile")
    make = partial(api.profile, before, after)
    needs = ("layerwise.profile.compare_states",)
    produce(make, options, record="profile.json", out=out, needs=needs)
