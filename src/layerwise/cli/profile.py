"""`layerwise profile BEFORE AFTER`: what moved, at which depth."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise import api
from layerwise.cli.derive import command
from layerwise.cli.output import short
from layerwise.cli.produce import Charts, Results, produce
from layerwise.options.commands import ProfileOptions

if TYPE_CHECKING:
    from rich.console import RenderableType

    from layerwise.profile.record import Profile

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
    out = Path(f"{short(after)}-profile")
    make = partial(api.profile, before, after)
    produce(
        make,
        _drawn,
        options,
        record="profile.json",
        out=out,
        needs=("layerwise.profile.compare_states",),
    )


def _drawn(made: "Profile", *, charts: bool) -> tuple[dict[str, bytes], "RenderableType"]:
    """Return what is written, and shown, of the result."""
    from layerwise import report

    files = {"profile.json": made.to_json(), "report.html": report.old.profile_html(made)}
    files |= report.old.export_profile_charts(made) if charts else {}
    return files, report.old.profile_table(made)
