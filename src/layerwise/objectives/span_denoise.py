"""Span denoising: spans of tokens that were hidden, from what is around them.

The spans of `layerwise.objectives.spans`; each of their tokens is replaced by the mask token, and
the masked-LM head tells it (arXiv 2604.17177).
"""

from functools import partial

from layerwise.data.batches import Row
from layerwise.objectives.hidden import Vocabulary, hidden_batches
from layerwise.objectives.record import Objective
from layerwise.objectives.spans import spans
from layerwise.objectives.token_loss import model_losses


def hide_spans(row: Row, words: Vocabulary, seed: int) -> dict[int, int]:
    """Return the mask token at each position of the spans, which are counted in ordinary tokens."""
    free = words.free(row)
    found = spans(len(free), seed=seed, index=row.index)
    return {free[i]: words.mask for span in found for i in span}


SPAN_DENOISE = Objective(
    name="span-denoise",
    kinds=frozenset({"masked"}),
    batches=partial(hidden_batches, hide=hide_spans),
    losses=model_losses,
)
