"""What `import layerwise` offers: one function a command, from what a user names to a record."""

from layerwise.api.analyses import analyse, analysis_frame, analysis_table
from layerwise.api.cards import (
    apply,
    card,
    compare,
    export,
    lora_config,
    place,
    verify,
)
from layerwise.api.controls import control, control_frame, control_from_runs, control_table
from layerwise.api.distances import distance, distance_table
from layerwise.api.measures import measure, measure_frame, measure_table, measured
from layerwise.api.probes import erase, erasure_table, probe, probing_table
from layerwise.api.profiles import profile, profile_frame, profile_table
from layerwise.api.studies import study, study_status, study_tables
from layerwise.api.tuning import tune

__all__ = [
    "analyse",
    "analysis_frame",
    "analysis_table",
    "apply",
    "card",
    "compare",
    "control",
    "control_frame",
    "control_from_runs",
    "control_table",
    "distance",
    "distance_table",
    "erase",
    "erasure_table",
    "export",
    "lora_config",
    "measure",
    "measure_frame",
    "measure_table",
    "measured",
    "place",
    "probe",
    "probing_table",
    "profile",
    "profile_frame",
    "profile_table",
    "study",
    "study_status",
    "study_tables",
    "tune",
    "verify",
]
