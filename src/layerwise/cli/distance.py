"""`layerwise distance MODEL DATA`: how far apart objectives are, with no training."""

from functools import partial
from pathlib import Path
from typing import Any

from layerwise import api
from layerwise.cli.derive import command
from layerwise.cli.output import short
from layerwise.cli.produce import Charts, Results, produce
from layerwise.options.commands import DistanceOptions

__all__ = ["distance"]

EXAMPLES = """\b
Examples:
  layerwise distance demo demo --where source=rotten_tomatoes
  layerwise distance org/model reviews.csv --objectives causal-lm,simcse --examples 64000
  layerwise distance org/encoder texts.txt --reference simcse --device cuda
"""


@command(
    *(Results, DistanceOptions, Charts),
    arguments={"model": "MODEL", "data": "DATA"},
    short_help="How far apart objectives are at a model.",
    epilog=EXAMPLES,
)
def distance(model: str, data: str, **options: Any) -> None:
    """Compare the gradients of objectives at MODEL on DATA with those of a reference objective.

    No weight moves: for each example, the gradient that an objective sends into the last hidden
    state is set beside the reference's. MODEL and DATA are as for `layerwise card`.

    Writes distance.json and report.html.
    """
    out = options["out"] or Path(f"{short(model)}-distance")
    make = partial(api.distance, model, data)
    needs = ("layerwise.distance.make",)
    produce(make, options, record="distance.json", out=out, needs=needs)
