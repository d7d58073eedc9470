"""How long rows may be, where nobody says it: as long as nearly all examples need."""

import math
from dataclasses import replace

import numpy as np

from layerwise.data.text import TextData
from layerwise.models.load import LoadedModel
from layerwise.models.parts import position_limit
from layerwise.objectives.record import Objective

#: The longest rows that are taken without being asked for, and the share of rows that need no more.
MOST, SHARE = 2048, 0.95
#: Examples that are looked at, evenly over the data (ours), in batches of this many.
_LOOKED_AT, _BATCH = 1000, 8
#: A tokenizer's limit above this stands for none.
_NO_LIMIT = 10**9


def fitted(
    loaded: LoadedModel, data: TextData, objective: Objective, max_length: int | None
) -> tuple[int, TextData]:
    """Return the length limit, and `data` with a note on it where it comes from the data.

    It is the number of tokens that 95 % of the examples need, up to the model's limit and 2,048.

    Raises:
        LayerwiseError: The objective can make no rows of the data.
    """
    if max_length is not None:
        return max_length, data
    places = np.linspace(0, len(data) - 1, min(len(data), _LOOKED_AT)).round().astype(int)
    some = replace(data, examples=tuple(data.examples[i] for i in places))
    most = min(MOST, reach(loaded))
    made = objective.batches_for(loaded, some, batch_size=_BATCH, max_length=most, seed=0)
    needs = np.array(made.needs or [most])  # Other people's objectives may not say.
    length = min(most, max(2, math.ceil(np.quantile(needs, SHARE, method="inverted_cdf"))))
    longer = np.mean(needs > length)
    share = f"{longer:.0%} of them are" if longer >= 0.005 else "less than 1% of them are"
    told = f"{share} longer" if made.needs else "some may be longer"
    note = f"examples are cut at {length:,} tokens; {told}"
    note = note if longer or not made.needs else f"no example is longer than {length:,} tokens"
    return length, replace(data, notes=(*data.notes, note))


def reach(loaded: LoadedModel) -> int:
    """Return how many tokens the model and its tokenizer are made for; a large number for any."""
    config = loaded.model.config
    told = (
        position_limit(loaded.model),
        getattr(config.get_text_config(), "max_position_embeddings", None),
        getattr(loaded.tokenizer, "model_max_length", None),
    )
    limits = [int(n) for n in told if isinstance(n, int | float) and 2 < n < _NO_LIMIT]
    return min(limits, default=_NO_LIMIT)
