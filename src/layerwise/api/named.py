"""What a user names or has in hand, as what the stages take."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from layerwise.data import TextData, read
from layerwise.errors import LayerwiseError
from layerwise.models.given import given
from layerwise.models.load import LoadedModel, load

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
    return model if isinstance(model, LoadedModel) else given(model, tokenizer)


@contextmanager
def enough_memory(hint: str) -> Iterator[None]:
    """Inside, running out of the device's memory is a one-line error that says what to type."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        msg = "out of memory"
        raise LayerwiseError(msg, hint=hint) from error
