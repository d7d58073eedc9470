"""`layerwise probe MODEL DATA`: what linear and MLP probes read at each depth."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise import api
from layerwise.cli.derive import command
from layerwise.cli.output import short
from layerwise.cli.produce import Results, produce
from layerwise.options.commands import ProbeOptions

if TYPE_CHECKING:
    from rich.console import RenderableType

    from layerwise.probing.record import Probing

__all__ = ["probe"]

EXAMPLES = """\b
Examples:
  layerwise probe demo demo
  layerwise probe org/model reviews.csv --label-column stars --examples 5000
  layerwise probe ./adapter reviews.csv --readout residual --device cuda
"""


@command(
    *(Results, ProbeOptions),
    arguments={"model": "MODEL", "data": "DATA"},
    short_help="What can be read from each depth.",
    epilog=EXAMPLES,
)
def probe(model: str, data: str, **options: Any) -> None:
    """Train small classifiers of DATA's labels on each depth's representation in MODEL.

    No weight of MODEL moves. MODEL and DATA are as for `layerwise card`; accuracies are of
    examples that the classifiers did not see.

    Writes probe.json.
    """
    out = Path(f"{short(model)}-probe")
    make = partial(api.probe, model, data)
    produce(
        make,
        _drawn,
        options,
        record="probe.json",
        out=out,
        needs=("layerwise.probing.probe",),
        several=False,
    )


def _drawn(made: "Probing", *, charts: bool) -> tuple[dict[str, bytes], "RenderableType"]:
    """Return what is written, and shown, of the result."""
    from layerwise import report

    del charts  # There are none of it.
    return {"probe.json": made.to_json()}, report.old.probing_table(made)
