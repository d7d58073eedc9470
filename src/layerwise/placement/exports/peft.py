"""A placement for PEFT itself: the arguments of its `LoraConfig`."""

from layerwise.card.record import ModelInfo
from layerwise.placement.exports.lora import LOAD_CONFIG, lora_arguments, lora_config_file
from layerwise.placement.exports.record import Export
from layerwise.placement.record import Placement

__all__ = ["export"]


def export(placement: Placement, _model: ModelInfo) -> Export:
    """PEFT itself, and whatever takes its `LoraConfig`."""
    return Export(
        files=lora_config_file(placement),
        lora=lora_arguments(placement),
        usage={"lora_config.json": LOAD_CONFIG},
    )
