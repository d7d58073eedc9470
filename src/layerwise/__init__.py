"""layerwise: where in depth to adapt a model, what it costs, and why.

    import layerwise as lw

    card = lw.card("demo", "demo", examples=64)
    print(card)
    place = card.place("balanced", layers=5)

Nothing heavy is imported until one of these names is used.
"""

import sys
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from layerwise import verbs

if TYPE_CHECKING:
    from layerwise.api import (
        Analysis,
        Control,
        DepthCallback,
        Distance,
        EqualStep,
        Erasure,
        LayerCard,
        LayerwiseError,
        Measure,
        Placement,
        Probing,
        Profile,
        ShallowBackward,
        analyse,
        card,
        compare,
        control,
        control_from_runs,
        distance,
        erase,
        measure,
        measured,
        place,
        probe,
        profile,
        study,
        study_status,
        study_tables,
        tune,
    )

__version__ = "0.1.0"

__all__ = [
    "Analysis",
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
    "__version__",
    "analyse",
    "card",
    "compare",
    "control",
    "control_from_runs",
    "distance",
    "erase",
    "measure",
    "measured",
    "place",
    "probe",
    "profile",
    "study",
    "study_status",
    "study_tables",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        message = f"module 'layerwise' has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(import_module("layerwise.api"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


class _Front(ModuleType):
    """This package, on which a function keeps its name although a stage is called the same.

    Importing the stage `layerwise.card` would set the attribute `card` to that module, and
    `lw.card(...)` would work or fail by what was imported before. Stages are reached by import
    statements, which do not need the attribute.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Front


def _late(module: str, name: str, *args: Any, **options: Any) -> Any:
    """Return what the function `name` of `module` returns."""
    return getattr(import_module(f"layerwise.{module}"), name)(*args, **options)


for _verb in ("place", "apply", "lora_config"):
    verbs.bind(_verb, partial(_late, "api", _verb))
for _verb in ("text", "notebook"):
    verbs.bind(_verb, partial(_late, "report", _verb))
