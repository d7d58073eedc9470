"""What a user names or has in hand, as what the stages take."""

from typing import Any

from layerwise.data import TextData, read
from layerwise.models.load import LoadedModel, load
from layerwise.models.wrap_model import wrap_model
from layerwise.resources import enough_memory

__all__ = [
    "SMALLER",
    "enough_memory",
    "loaded_model",
    "text_data",
]

#: What to type where a training does not fit.
SMALLER = "a smaller --batch-size with --accumulation, or --gradient-checkpointing"


def text_data(data: str | TextData, **reading: Any) -> TextData:
    """The text that `data` names, read with the options `reading`; or itself."""
    return read(data, **reading) if isinstance(data, str) else data


def loaded_model(model: Any, tokenizer: Any = None, **loading: Any) -> LoadedModel:
    """The model that `model` names, loaded with the options `loading`; or the one in hand.

    Raises:
        BadInputError: It is neither a name nor a model.
    """
    if isinstance(model, str):
        return load(model, **loading)
    return model if isinstance(model, LoadedModel) else wrap_model(model, tokenizer)
