"""Causal language modelling: each token from those before it."""

from functools import partial

from layerwise.data.batches import BatchSet, assemble, by_length, causal_batch, text_rows
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.objectives.seq2seq import prefix_batches
from layerwise.objectives.token_loss import model_losses

__all__ = ["CAUSAL_LM"]


def _batches(request: BatchRequest) -> BatchSet:
    """Return whole texts; for an encoder-decoder, the second half of each from the first."""
    tokenizer, data = request.tokenizer, request.data
    size, limit = request.batch_size, request.max_length
    if request.kind == "seq2seq":
        return prefix_batches(
            tokenizer, data, batch_size=size, max_length=limit, start=request.decoder_start
        )
    rows = text_rows(tokenizer, data, max_length=limit, least=2)
    return assemble(
        rows,
        by_length(rows.rows, batch_size=size),
        of=len(data),
        collate=partial(causal_batch, pad=tokenizer.pad_token_id),
    )


CAUSAL_LM = Objective(
    name="causal-lm",
    kinds=frozenset({"causal", "seq2seq"}),
    batches=_batches,
    losses=model_losses,
)
