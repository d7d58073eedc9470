"""layerwise: where in depth to adapt a model, what it costs, and why.

    import layerwise as lw

    card = lw.card("demo", "demo", examples=64)
    print(card)
    place = card.place("balanced", layers=5)

Nothing heavy is imported until one of these names is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from layerwise import late_methods
from layerwise.errors import LayerwiseError
from layerwise.registry import later

if TYPE_CHECKING:
    from layerwise.analysis.record import Analysis
    from layerwise.card.record import LayerCard
    from layerwise.distance.record import Distance
    from layerwise.measure.record import Measure
    from layerwise.placement.check.record import Check
    from layerwise.placement.record import Placement
    from layerwise.probing.record import Erasure, Probing
    from layerwise.profile.audit_record import Audit
    from layerwise.profile.callback import DepthCallback
    from layerwise.profile.record import Control, Profile
    from layerwise.tuning.equal_step import EqualStep
    from layerwise.tuning.shallow import ShallowBackward

# Packages that bear the name of a public function are imported before it is bound, so that no later
# import of theirs takes the name from it.
for _name in ("card", "distance", "measure", "profile", "study"):
    import_module(f"layerwise.{_name}")

from layerwise.api.cards import card, check, compare, place  # noqa: E402  # the packages come first
from layerwise.api.readings import audit, distance, erase, probe, profile  # noqa: E402
from layerwise.api.studies import analyse, study, study_status, study_tables  # noqa: E402
from layerwise.api.training import (  # noqa: E402
    control,
    control_from_runs,
    measure,
    measured,
    tune,
)

__version__ = "0.1.0"

__all__ = [
    "Analysis", "Audit", "Check", "Control", "DepthCallback", "Distance", "EqualStep", "Erasure",
    "LayerCard", "LayerwiseError", "Measure", "Placement", "Probing", "Profile",
    "ShallowBackward", "__version__", "analyse", "audit", "card", "check", "compare", "control",
    "control_from_runs", "distance", "erase", "measure", "measured", "place", "probe", "profile",
    "study", "study_status", "study_tables", "tune",
]  # fmt: skip

#: Classes, imported when they are first named: they bring NumPy with them, some the trainer too.
_LATE = {
    "Analysis": "analysis.record",
    "Audit": "profile.audit_record",
    "Check": "placement.check.record",
    "Control": "profile.record",
    "DepthCallback": "profile.callback",
    "Distance": "distance.record",
    "EqualStep": "tuning.equal_step",
    "Erasure": "probing.record",
    "LayerCard": "card.record",
    "Measure": "measure.record",
    "Placement": "placement.record",
    "Probing": "probing.record",
    "Profile": "profile.record",
    "ShallowBackward": "tuning.shallow",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        message = f"module 'layerwise' has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(import_module(f"layerwise.{_LATE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


late_methods.bind("place", later("layerwise.api.cards", "place"))
for _method in ("apply", "lora_config"):
    late_methods.bind(_method, later("layerwise.placement.verify", _method))
for _method in ("text", "notebook"):
    late_methods.bind(_method, later("layerwise.report", _method))
