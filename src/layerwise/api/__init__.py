"""What `import layerwise` offers: one function a command, from what a user names to a record."""

from layerwise.api.cards import card, compare, export, place, verify
from layerwise.api.readings import distance, erase, probe, profile
from layerwise.api.studies import analyse, study, study_status, study_tables
from layerwise.api.training import control, control_from_runs, measure, measured, tune

__all__ = [
    "analyse",
    "card",
    "compare",
    "control",
    "control_from_runs",
    "distance",
    "erase",
    "export",
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
