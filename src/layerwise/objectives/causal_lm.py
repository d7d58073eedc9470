"""Causal language modelling: each token from those before it."""

from layerwise.data.batches import BatchSet, causal_batch, text_rows
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.objectives.seq2seq import prefix_batches
from layerwise.objectives.token_loss import model_losses


def _batches(request: BatchRequest) -> BatchSet:
    """Return whole texts; for an encoder-decoder, the second half of each from the first."""
    if request.kind == "seq2seq":
        return prefix_batches(request)
    rows = text_rows(request.tokenizer, request.data, max_length=request.max_length, least=2)
    return request.collated(rows, causal_batch)


CAUSAL_LM = Objective(
    name="causal-lm",
    kinds=frozenset({"causal", "seq2seq"}),
    batches=_batches,
    losses=model_losses,
    packs=True,
)
