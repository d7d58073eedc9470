"""A placement for TRL."""

from layerwise.card.record import ModelInfo
from layerwise.placement.exports.lora import (
    LOAD_CONFIG,
    lora_config_file,
    named_arguments,
    refuse_ranks,
)
from layerwise.placement.exports.patterns import target_regex
from layerwise.placement.exports.record import ABOUT, Export, yaml_lines
from layerwise.placement.record import Placement

__all__ = ["export"]


def export(placement: Placement, _model: ModelInfo) -> Export:
    """TRL: a file for its command line, and PEFT's arguments for its trainers in Python."""
    refuse_ranks(placement, "TRL's command line")
    names = list(placement.modules)
    # It hands a list of one on as its member, which PEFT takes as a pattern.
    targets = names if len(names) > 1 else [target_regex(names)]
    values = {
        "model_name_or_path": placement.model,
        "model_revision": placement.revision,
        "use_peft": True,
        "lora_r": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
        "lora_target_modules": targets,
    }
    return Export(
        files={"trl.yaml": yaml_lines(values, about=ABOUT), **lora_config_file(placement)},
        lora=named_arguments(placement, targets if len(names) > 1 else targets[0]),
        usage={
            "trl.yaml": "trl sft --config trl.yaml --dataset_name DATA",
            "lora_config.json": f"SFTTrainer(..., peft_config={LOAD_CONFIG})",
        },
    )
