"""A model or adapter, with its tokenizer, as a folder that can be loaded again."""

import copy
from pathlib import Path
from typing import Any

from layerwise.files import remove
from layerwise.models.heads import head_modules
from layerwise.models.load import LoadedModel
from layerwise.models.reading import quiet
from layerwise.tuning.adapters import base_of, has_adapters

__all__ = ["write_model"]


def write_model(loaded: LoadedModel, folder: Path) -> None:
    """Write the weights of `loaded`, or its adapters alone, and its tokenizer into `folder`.

    Raises:
        OSError: There is no room, or no permission.
        SafetensorError: Likewise.
    """
    # PEFT would ask the hub, each time, if the embeddings are the base's own.
    options = {"save_embedding_layers": False} if has_adapters(loaded.model) else {}
    with quiet():
        loaded.model.save_pretrained(folder, **options)
        if loaded.tokenizer is not None:
            _write_tokenizer(loaded.tokenizer, folder)
        if has_adapters(loaded.model):
            _write_classes(base_of(loaded.model), folder)
    for card in folder.glob("README.md"):  # PEFT's template of a model card, all of it to fill in.
        remove(card, inside=folder)


def _write_classes(base: Any, folder: Path) -> None:
    """Write what the head is for that an adapter brings: its base need not have one."""
    if head_modules(base):
        config = copy.deepcopy(base.config)
        config.architectures = [type(base).__name__]
        config.save_pretrained(folder)


def _write_tokenizer(tokenizer: Any, folder: Path) -> None:
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        if type(error) is not Exception:  # The writer in Rust has no type of its own.
            raise
        raise OSError(str(error)) from error
