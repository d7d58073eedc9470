"""Causal language modelling: each token from those before it."""

from functools import partial
from typing import Any

from layerwise.data.batches import BatchSet, assemble, by_length, causal_batch, text_rows
from layerwise.data.text import TextData
from layerwise.models.kind import ModelKind
from layerwise.objectives.record import Objective
from layerwise.objectives.seq2seq import prefix_batches
from layerwise.objectives.token_loss import model_losses

__all__ = ["CAUSAL_LM"]


def _make_batches(
    tokenizer: Any,
    data: TextData,
    *,
    batch_size: int,
    max_length: int,
    seed: int,
    kind: ModelKind,
    decoder_start: int | None = None,
) -> BatchSet:
    """Whole texts; for an encoder-decoder, the second half of each from the first."""
    del seed
    if kind == "seq2seq":
        return prefix_batches(
            tokenizer, data, batch_size=batch_size, max_length=max_length, start=decoder_start
        )
    rows = text_rows(tokenizer, data, max_length=max_length, least=2)
    return assemble(
        rows,
        by_length(rows.rows, batch_size=batch_size),
        of=len(data),
        collate=partial(causal_batch, pad=tokenizer.pad_token_id),
    )


CAUSAL_LM = Objective(
    name="causal-lm",
    kinds=frozenset({"causal", "seq2seq"}),
    make_batches=_make_batches,
    losses=model_losses,
)
