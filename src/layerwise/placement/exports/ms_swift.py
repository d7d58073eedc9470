"""A placement for ms-swift."""

from layerwise.card.record import ModelInfo
from layerwise.placement.exports.lora import named_arguments, refuse_ranks
from layerwise.placement.exports.record import ABOUT, Export, yaml_lines
from layerwise.placement.record import Placement

__all__ = ["export"]


def export(placement: Placement, _model: ModelInfo) -> Export:
    """ms-swift: what its file lists as `target_modules` is handed on to PEFT."""
    refuse_ranks(placement, "ms-swift")
    values = {
        "model": placement.model,
        "model_revision": placement.revision,
        "tuner_type": "lora",
        "target_modules": list(placement.modules),
        "lora_rank": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
    }
    return Export(
        files={"ms-swift.yaml": yaml_lines(values, about=ABOUT)},
        lora=named_arguments(placement, list(placement.modules)),
        usage={"ms-swift.yaml": "swift sft ms-swift.yaml --dataset DATA"},
    )
