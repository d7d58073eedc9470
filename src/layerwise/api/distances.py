"""Distances between objectives, from what a user names."""

from typing import TYPE_CHECKING, Any, Unpack

from layerwise.api.named import SMALLER_BATCH, enough_memory, loaded_model, text_data
from layerwise.options.commands import DistanceOptions
from layerwise.options.signature import takes_options
from layerwise.progress import Progress, silent

if TYPE_CHECKING:
    from layerwise.data.text import TextData
    from layerwise.distance.record import Distance

__all__ = ["distance"]


@takes_options
def distance(
    model: Any,
    data: "str | TextData",
    *,
    tokenizer: Any = None,
    progress: Progress = silent,
    **options: Unpack[DistanceOptions],
) -> "Distance":
    """Return how far apart objectives are at `model`, by their gradients on the same text.

    Nothing is trained.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or a model in hand.
        data: A file, folder, hub data set or ``demo``; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        progress: Hears how far the pass is.
        options: Those of `layerwise.options.commands.DistanceOptions`. SimCSE and Barlow Twins
            compare the texts of a batch, so its size changes their numbers.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        NonFiniteError: A gradient is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.distance.choose import choose
    from layerwise.distance.make import make_distance
    from layerwise.objectives import OBJECTIVES

    objectives, reference = options["objectives"], options["reference"]
    for name in (*(objectives or ()), *filter(None, [reference])):
        OBJECTIVES[name]  # A name that is wrong is said before a model is loaded.
    text = text_data(data, options)
    loaded = loaded_model(model, tokenizer, options)
    chosen = choose(loaded, text, objectives=objectives, reference=reference)
    with enough_memory(SMALLER_BATCH):
        return make_distance(
            loaded,
            text,
            chosen,
            batch_size=options["batch_size"],
            max_length=options["max_length"],
            seed=options["seed"],
            progress=progress,
        )
