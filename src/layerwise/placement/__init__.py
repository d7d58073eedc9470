"""Which blocks to adapt, what that costs, and the placement as files for other tools.

What needs PEFT, injecting a placement and checking it, is in `layerwise.placement.verify`, which
is not imported here: a placement is chosen and written without it.
"""

from layerwise.placement.advise import advise
from layerwise.placement.compare import USABLE, Comparison, PairAgreement, compare
from layerwise.placement.cost import missing_timings, placement_cost
from layerwise.placement.exports import TRAINERS, Export, peft_config, placement_files, target_regex
from layerwise.placement.place import GOALS, place
from layerwise.placement.policies import POLICIES
from layerwise.placement.record import Cost, Coverage, PlacedBlock, Placement, Verified
from layerwise.placement.reference import Transferred, transferred
from layerwise.placement.rows import parse_rows

__all__ = [
    "GOALS",
    "POLICIES",
    "TRAINERS",
    "USABLE",
    "Comparison",
    "Cost",
    "Coverage",
    "Export",
    "PairAgreement",
    "PlacedBlock",
    "Placement",
    "Transferred",
    "Verified",
    "advise",
    "compare",
    "missing_timings",
    "parse_rows",
    "peft_config",
    "place",
    "placement_cost",
    "placement_files",
    "target_regex",
    "transferred",
]
