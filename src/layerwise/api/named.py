"""What a user names or has in hand, as what the stages take; and how a record is shown."""

import html
from typing import Any

from layerwise.data import TextData, read
from layerwise.models.load import LoadedModel, load
from layerwise.models.wrap_model import wrap_model
from layerwise.resources import enough_memory

__all__ = [
    "SMALLER",
    "enough_memory",
    "framed",
    "loaded_model",
    "printed",
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


def printed(table: Any) -> str:
    """What `print` shows of a record: its table, a renderable of rich, as text."""
    from layerwise.report.old.plain import as_text

    return as_text(table)


def framed(report: bytes) -> str:
    """What a notebook shows of a record: its report, in a frame that reaches nothing around it."""
    page = html.escape(report.decode())
    return f'<iframe srcdoc="{page}" sandbox="allow-scripts" width="100%" height="900"></iframe>'
