"""The Layer Card: signals by blocks, with intervals, costs and provenance."""

from layerwise.card.make import make_card
from layerwise.card.record import (
    Advice,
    Agreement,
    CaptureInfo,
    DataInfo,
    LayerCard,
    LayerRow,
    ModelInfo,
    StackInfo,
)

__all__ = [
    "Advice",
    "Agreement",
    "CaptureInfo",
    "DataInfo",
    "LayerCard",
    "LayerRow",
    "ModelInfo",
    "StackInfo",
    "make_card",
]
