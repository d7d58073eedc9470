"""`layerwise probe MODEL DATA`: what linear and MLP probes read at each depth."""

from functools import partial
from pathlib import Path
from typing import Any

from layerwise import api
from layerwise.cli.derive import command
from layerwise.cli.output import short
from layerwise.cli.produce import Charts, Results, produce
from layerwise.options.commands import ProbeOptions

__all__ = ["probe"]

EXAMPLES = """\b
Examples:
  layerwise probe demo demo
  layerwise probe org/model reviews.csv --label-column stars --examples 5000
  layerwise probe ./adapter reviews.csv --readout residual --device cuda
"""


@command(
    *(Results, ProbeOptions, Charts),
    arguments={"model": "MODEL", "data": "DATA"},
    short_help="What can be read from each depth.",
    epilog=EXAMPLES,
)
def probe(model: str, data: str, **options: Any) -> None:
    """Train small classifiers of DATA's labels on each depth's representation in MODEL.

    No weight of MODEL moves. MODEL and DATA are as for `layerwise card`; accuracies are of
    examples that the classifiers did not see.

    Writes probe.json and report.html.
    """
    out = options["out"] or Path(f"{short(model)}-probe")
    make = partial(api.probe, model, data)
    needs = ("layerwise.probing.probe",)
    produce(make, options, record="probe.json", out=out, needs=needs, several=False)
