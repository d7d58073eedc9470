"""What `import layerwise` offers: one function a command, from what a user names to a record."""

from layerwise.api.cards import (
    apply,
    card,
    card_frame,
    card_table,
    compare,
    lora_config,
    place,
    verify,
)
from layerwise.api.tuning import tune
from layerwise.card.record import LayerCard
from layerwise.errors import LayerwiseError
from layerwise.placement import Comparison
from layerwise.placement.record import Placement

__all__ = [
    "Comparison",
    "LayerCard",
    "LayerwiseError",
    "Placement",
    "apply",
    "card",
    "card_frame",
    "card_table",
    "compare",
    "lora_config",
    "place",
    "tune",
    "verify",
]
