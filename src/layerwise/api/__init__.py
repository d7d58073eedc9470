"""What `import layerwise` offers: one function a command, from what a user names to a record."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from layerwise.analysis.record import Analysis
from layerwise.api.analyses import analyse
from layerwise.api.cards import (
    apply,
    card,
    compare,
    export,
    lora_config,
    place,
    verify,
)
from layerwise.api.controls import control, control_from_runs
from layerwise.api.distances import distance
from layerwise.api.measures import measure, measured
from layerwise.api.probes import erase, probe
from layerwise.api.profiles import profile
from layerwise.api.studies import study, study_status, study_tables
from layerwise.api.tuning import tune
from layerwise.card.record import LayerCard
from layerwise.distance.record import Distance
from layerwise.errors import LayerwiseError
from layerwise.placement.compare import Comparison
from layerwise.placement.record import Placement
from layerwise.probing.record import Erasure, Probing
from layerwise.profile.record import Control, Profile

if TYPE_CHECKING:
    from layerwise.measure.record import Measure
    from layerwise.profile.callback import DepthCallback
    from layerwise.tuning.equal_step import EqualStep
    from layerwise.tuning.shallow import ShallowBackward

__all__ = [
    "Analysis",
    "Comparison",
    "Control",
    "DepthCallback",
    "Distance",
    "EqualStep",
    "Erasure",
    "LayerCard",
    "LayerwiseError",
    "Measure",
    "Placement",
    "Probing",
    "Profile",
    "ShallowBackward",
    "analyse",
    "apply",
    "card",
    "compare",
    "control",
    "control_from_runs",
    "distance",
    "erase",
    "export",
    "lora_config",
    "measure",
    "measured",
    "place",
    "probe",
    "profile",
    "study",
    "study_status",
    "study_tables",
    "tune",
    "verify",
]

#: Classes that bring the trainer with them, imported when they are first named.
_LATE = {
    "DepthCallback": "layerwise.profile.callback",
    "EqualStep": "layerwise.tuning.equal_step",
    "Measure": "layerwise.measure.record",
    "ShallowBackward": "layerwise.tuning.shallow",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        message = f"module 'layerwise.api' has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(import_module(_LATE[name]), name)
    globals()[name] = found
    return found
