"""A model or adapter, with its tokenizer, as a folder that can be loaded again."""

from pathlib import Path

from layerwise.models.load import LoadedModel
from layerwise.models.quiet import quiet
from layerwise.tuning.adapters import has_adapters

__all__ = ["write_model"]


def write_model(loaded: LoadedModel, folder: Path) -> None:
    """Write the weights of `loaded`, or its adapters alone, and its tokenizer into `folder`."""
    # PEFT would ask the hub, each time, if the embeddings are the base's own.
    options = {"save_embedding_layers": False} if has_adapters(loaded.model) else {}
    with quiet():
        loaded.model.save_pretrained(folder, **options)
        if loaded.tokenizer is not None:
            loaded.tokenizer.save_pretrained(folder)
    for card in folder.glob("README.md"):  # PEFT's template of a model card, all of it to fill in.
        card.unlink()
