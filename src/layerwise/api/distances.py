"""Distances between objectives, from what a user names."""

from collections.abc import Sequence
from typing import Any

from layerwise.api.named import enough_memory, loaded_model, text_data
from layerwise.data import TextData
from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from layerwise.distance.record import Distance
from layerwise.objectives import OBJECTIVES
from layerwise.progress import Progress, silent

__all__ = ["distance"]


def distance(  # noqa: PLR0913  # one keyword for each thing that a user may choose
    model: Any,
    data: str | TextData,
    *,
    objectives: Sequence[str] | None = None,
    reference: str | None = None,
    tokenizer: Any = None,
    examples: int | None = 1000,
    batch_size: int = 32,
    max_length: int = 128,
    seed: int = 0,
    text_column: str | None = None,
    where: Sequence[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Distance:
    """How far apart objectives are at `model`, by their gradients on the same text; no training.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or a model in hand.
        data: A file, folder, hub data set or ``demo``; or text read before.
        objectives: What is compared with the reference; None takes all that the model can do.
        reference: What they are compared with; None takes masked-lm or causal-lm.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        examples: How many examples to draw from `data`; None takes all.
        batch_size: Examples a batch; SimCSE and Barlow Twins compare the texts of one.
        max_length: Tokens that an example is cut at.
        seed: Fixes the examples and their order, what objectives draw, dropout and projections.
        text_column: The column that holds the text; found by its name where None.
        where: ``COLUMN=VALUE`` conditions on the rows that are read.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: Whether code that a model's repository brings may run.
        progress: Hears how far the pass is.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        NonFiniteError: A gradient is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    for name in (*(objectives or ()), *filter(None, [reference])):
        OBJECTIVES[name]  # A name that is wrong is said before a model is loaded.
    text = text_data(data, text_column=text_column, where=where, examples=examples, seed=seed)
    how: dict[str, Any] = {"device": device, "dtype": dtype, "seed": seed}
    loaded = loaded_model(model, tokenizer, trust_remote_code=trust_remote_code, **how)
    chosen = choose(loaded, text, objectives=objectives, reference=reference)
    with enough_memory("a smaller --batch-size or --max-length"):
        return make_distance(
            loaded,
            text,
            chosen,
            batch_size=batch_size,
            max_length=max_length,
            seed=seed,
            progress=progress,
        )
