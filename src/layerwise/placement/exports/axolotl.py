"""A placement for Axolotl."""

from layerwise.card.record import ModelInfo
from layerwise.placement.exports.lora import alpha_pattern, named_arguments, rank_pattern
from layerwise.placement.exports.record import ABOUT, Export, yaml_lines
from layerwise.placement.record import Placement

__all__ = ["export"]


def export(placement: Placement, _model: ModelInfo) -> Export:
    """Axolotl: lines of its configuration, the modules by their full names."""
    patterns = {"rank_pattern": rank_pattern(placement), "alpha_pattern": alpha_pattern(placement)}
    values = {
        "base_model": placement.model,
        "revision_of_model": placement.revision,
        "adapter": "lora",
        "lora_r": placement.rank,
        "lora_alpha": placement.alpha,
        "lora_dropout": placement.dropout,
        "lora_target_modules": list(placement.modules),
        **{f"lora_{name}": pattern or None for name, pattern in patterns.items()},
    }
    return Export(
        files={"axolotl.yaml": yaml_lines(values, about=ABOUT)},
        lora=named_arguments(placement, list(placement.modules)) | patterns,
        usage={"axolotl.yaml": "axolotl train axolotl.yaml, with your data and settings added"},
    )
