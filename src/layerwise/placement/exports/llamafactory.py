"""A placement for LLaMA-Factory."""

from layerwise.card.record import ModelInfo
from layerwise.placement.exports.lora import named_arguments, refuse_ranks
from layerwise.placement.exports.record import ABOUT, FACTORY_SETTINGS, Export, yaml_lines
from layerwise.placement.record import Placement

__all__ = ["export"]


def export(placement: Placement, model: ModelInfo) -> Export:
    """LLaMA-Factory: it splits a string at commas, so modules are listed by their full names."""
    refuse_ranks(placement, "LLaMA-Factory")
    values = {
        "model_name_or_path": placement.model,
        "model_revision": placement.revision,
        "finetuning_type": "lora",
        "lora_rank": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
        "lora_target": ",".join(list(placement.modules)),
        # Otherwise it leaves out the modules of a vision tower without a word.
        "freeze_vision_tower": False if len(model.stacks) > 1 else None,
    }
    return Export(
        files={"llamafactory.yaml": yaml_lines(values, about=ABOUT)},
        lora=named_arguments(placement, list(placement.modules)),
        usage={"llamafactory.yaml": f"llamafactory-cli train llamafactory.yaml {FACTORY_SETTINGS}"},
    )
