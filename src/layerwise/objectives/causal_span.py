"""Causal span prediction: spans of tokens that the input hides, from what comes before them.

The spans of `layerwise.objectives.spans`, among the tokens that have one before them. In the input
each of their tokens is replaced by the mask token, or else the unknown token, or else the token
that ends a text (that order is ours). The loss is on their tokens alone: the one at position t is
told at position t - 1, which sees the tokens of the span before it as hidden (arXiv 2604.17177).
"""

from functools import partial

from layerwise.objectives.hidden import hidden_batches
from layerwise.objectives.record import Objective
from layerwise.objectives.span_denoise import hide_spans
from layerwise.objectives.token_loss import model_losses

CAUSAL_SPAN = Objective(
    name="causal-span",
    kinds=frozenset({"causal"}),
    batches=partial(hidden_batches, hide=hide_spans, causal=True),
    losses=model_losses,
)
