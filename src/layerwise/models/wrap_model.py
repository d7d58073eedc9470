"""A model that the user has in hand already, as one that was loaded here."""

from typing import Any

from transformers import PreTrainedModel

from layerwise.errors import BadInputError
from layerwise.models.head_kind import model_kind
from layerwise.models.hf_logging import quiet
from layerwise.models.load import LoadedModel
from layerwise.models.reading import read_tokenizer, readable
from layerwise.models.sources import resolve
from layerwise.models.stack import find_stacks

__all__ = ["wrap_model"]


def wrap_model(model: Any, tokenizer: Any = None) -> LoadedModel:
    """Return `model`, the very object in eval mode, with its tokenizer and stacks.

    Args:
        model: A `PreTrainedModel`, or one in an adapter's wrapper.
        tokenizer: Its tokenizer; read from where the model was where None.

    Raises:
        BadInputError: It is no such model.
        ModelError: Its tokenizer cannot be found, or has no token that can pad.
        StackError: No stack of blocks was found in it.
    """
    inner = next((m for m in _modules(model) if isinstance(m, PreTrainedModel)), None)
    if inner is None:
        msg = "no model"
        expected = "a name, a transformers PreTrainedModel, or a PeftModel of one"
        raise BadInputError(msg, value=type(model).__name__, expected=expected)
    name = inner.name_or_path
    notes: list[str] = []
    if tokenizer is None:
        tokenizer, notes = _tokenizer(name)
    return LoadedModel(
        model=model.eval(),
        tokenizer=tokenizer,
        source=name or type(inner).__name__,
        kind=model_kind(model),
        stacks=find_stacks(model),
        notes=tuple(notes),
    )


def _modules(model: Any) -> Any:
    return model.modules() if hasattr(model, "modules") else ()


def _tokenizer(name: str) -> tuple[Any, list[str]]:
    if not name:
        msg = "model without a name to find its tokenizer by"
        raise BadInputError(msg, expected="a tokenizer", hint="tokenizer=...")
    source = resolve(name, weights=False)
    with quiet(), readable(source):
        return read_tokenizer(source, remote=False)
