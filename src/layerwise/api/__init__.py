"""What `import layerwise` offers: one function a command, from what a user names to a record."""

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

__all__ = [
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
