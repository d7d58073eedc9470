"""The models stage: what a user names, as a model with its stacks, targets, roles and parts."""

from layerwise.models.head_kind import ModelKind, model_kind
from layerwise.models.load import LoadedModel, load, load_skeleton
from layerwise.models.parts import attention_modules, embeddings, final_norm, position_limit
from layerwise.models.roles import ParameterRole, roles
from layerwise.models.stack import BlockRef, Stack, all_refs, block_of, find_stacks
from layerwise.models.targets import (
    Target,
    adaptable,
    default_targets,
    fused_experts,
    resolve_targets,
)

__all__ = [
    "BlockRef",
    "LoadedModel",
    "ModelKind",
    "ParameterRole",
    "Stack",
    "Target",
    "adaptable",
    "all_refs",
    "attention_modules",
    "block_of",
    "default_targets",
    "embeddings",
    "final_norm",
    "find_stacks",
    "fused_experts",
    "load",
    "load_skeleton",
    "model_kind",
    "position_limit",
    "resolve_targets",
    "roles",
]
