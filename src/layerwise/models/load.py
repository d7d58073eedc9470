"""A hub id, folder, GGUF file or PEFT adapter folder, as a model and its tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from layerwise.models.kind import ModelKind
from layerwise.models.stack import Stack

__all__ = ["LoadedModel", "ModelKind"]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be measured.

    Attributes:
        model: The `PreTrainedModel`, in eval mode.
        tokenizer: Its tokenizer, with a padding token.
        source: What the user named, resolved (a path or hub id).
        kind: What its head does.
        stacks: Its blocks.
        revision: The hub commit, where there is one.
        files: SHA-256 of each file that was read, by name.
        base: For an adapter, the source of its base model.
        notes: What was not as the source says: fallbacks taken, parts left out.
    """

    model: Any
    tokenizer: Any
    source: str
    kind: ModelKind
    stacks: tuple[Stack, ...]
    revision: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    notes: tuple[str, ...] = ()
