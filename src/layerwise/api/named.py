"""What a user names or has in hand, as what the stages take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.errors import BadInputError
from layerwise.options.declaration import pick
from layerwise.options.groups import Loading, TextOptions

if TYPE_CHECKING:
    from layerwise.card.record import LayerCard
    from layerwise.data.text import TextData
    from layerwise.models.load import LoadedModel

#: What to type where a pass or a training does not fit.
SMALLER_BATCH = "a smaller --batch-size or --max-length"
SMALLER = "a smaller --batch-size with --accumulation, or --gradient-checkpointing"


def text_data(data: Any, options: Mapping[str, Any]) -> "TextData":
    """Return the text that `data` names or holds, read as `options` say; or itself."""
    from layerwise.data.text import TextData, read

    return data if isinstance(data, TextData) else read(data, **pick(TextOptions, options))


def loaded_model(
    model: Any, tokenizer: Any, options: Mapping[str, Any], *, labels: Sequence[str] | None = None
) -> "LoadedModel":
    """Return the model that `model` names, loaded as `options` say; or the one in hand.

    Raises:
        BadInputError: It is neither a name nor a model.
    """
    from layerwise.models.load import LoadedModel, load, wrap_model

    if isinstance(model, str | Path):
        return load(str(model), labels=labels, seed=options["seed"], **pick(Loading, options))
    if options.get("quantize") is not None:
        msg = "quantisation of a model in hand"
        expected = "the name of a model that is loaded so"
        raise BadInputError(msg, value=options["quantize"], expected=expected)
    return model if isinstance(model, LoadedModel) else wrap_model(model, tokenizer)


def known_card(card: Any) -> "LayerCard":
    """Return the card that `card` names; or itself.

    Raises:
        SchemaError: There is none.
        BadInputError: It is neither a name nor a card.
    """
    from layerwise.card.record import LayerCard

    if isinstance(card, LayerCard):
        return card
    if not isinstance(card, str | Path):
        msg, expected = "no card", "a LayerCard, or the folder of one"
        raise BadInputError(msg, value=type(card).__name__, expected=expected)
    return LayerCard.load(Path(card))
