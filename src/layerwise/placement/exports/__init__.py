"""A placement as files that other tools read; data only, no tool is imported."""

from layerwise.placement.exports.lora import alpha_pattern, peft_config, rank_pattern
from layerwise.placement.exports.patterns import target_regex
from layerwise.placement.exports.record import Export
from layerwise.placement.exports.trainers import TRAINERS, placement_files

__all__ = [
    "TRAINERS",
    "Export",
    "alpha_pattern",
    "peft_config",
    "placement_files",
    "rank_pattern",
    "target_regex",
]
