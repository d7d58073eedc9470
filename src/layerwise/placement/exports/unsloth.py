"""A placement for Unsloth."""

from layerwise.card.record import ModelInfo
from layerwise.files import canonical_json
from layerwise.placement.exports.lora import lora_arguments
from layerwise.placement.exports.record import Export
from layerwise.placement.record import Placement

__all__ = ["export"]

_USAGE = 'FastLanguageModel.get_peft_model(model, **json.load(open("unsloth.json")))'


def export(placement: Placement, _model: ModelInfo) -> Export:
    """Unsloth: keyword arguments of `get_peft_model`; what it does not name goes on to PEFT."""
    # Without the empty list it may adapt the experts of a mixture too.
    arguments = {**lora_arguments(placement), "bias": "none", "target_parameters": []}
    return Export(
        files={"unsloth.json": canonical_json(arguments)},
        lora=arguments,
        usage={"unsloth.json": _USAGE},
    )
