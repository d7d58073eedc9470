"""Causal span prediction: spans of tokens that the input hides, from what comes before them.

The spans of `layerwise.objectives.spans`, among the tokens that have one before them. In the input
each of their tokens is replaced by the mask token, or else the unknown token, or else the token
that ends a text (that order is ours). The loss is on their tokens alone: the one at position t is
told at position t - 1, which sees the tokens of the span before it as hidden (arXiv 2604.17177).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from layerwise.data.batches import (
    IGNORED,
    Batch,
    BatchSet,
    Row,
    assemble,
    by_length,
    input_tensors,
    kept_rows,
    padded,
    text_rows,
)
from layerwise.errors import ModelError
from layerwise.objectives.hidden import labelled
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.objectives.spans import spans
from layerwise.objectives.token_loss import model_losses

__all__ = ["CAUSAL_SPAN"]

STAND_INS = ("mask", "unk", "eos")


def _batches(request: BatchRequest) -> BatchSet:
    """Return whole texts with spans hidden by the seed and each example's position alone."""
    tokenizer = request.tokenizer
    mask, notes = _stand_in(tokenizer)
    special = frozenset(tokenizer.all_special_ids)
    rows = text_rows(tokenizer, request.data, max_length=request.max_length, least=2)
    kept = [row for row in rows.rows if not special.issuperset(row.ids[1:])]
    rows = replace(rows, rows=kept_rows(kept, max_length=request.max_length), notes=notes)
    return assemble(
        rows,
        by_length(rows.rows, batch_size=request.batch_size),
        of=len(request.data),
        collate=partial(_collate, mask=mask, special=special, request=request),
    )


def _stand_in(tokenizer: Any) -> tuple[int, tuple[str, ...]]:
    """Return the token that hides others, and a note where it is not a mask token.

    Raises:
        ModelError: There is neither a mask token nor another one that will do.
    """
    tokens = {name: getattr(tokenizer, f"{name}_token_id") for name in STAND_INS}
    name = next((name for name in STAND_INS if tokens[name] is not None), None)
    if name is None:
        raise ModelError(
            what="tokenizer has no token to hide others behind",
            value=type(tokenizer).__name__,
            expected="a mask, unk or eos token",
            hint="--objective causal-lm",
        )
    shown = getattr(tokenizer, f"{name}_token")
    note = f"the tokenizer has no mask token; {shown} hides the spans"
    return int(tokens[name]), () if name == "mask" else (note,)


def _collate(
    rows: Sequence[Row], *, mask: int, special: frozenset[int], request: BatchRequest
) -> Batch:
    hidden = [_hide(row, mask=mask, special=special, seed=request.seed) for row in rows]
    labels = [[*labels[1:], IGNORED] for _, labels in hidden]
    return Batch(
        inputs=input_tensors([row for row, _ in hidden], pad=request.tokenizer.pad_token_id),
        labels=padded(labels, fill=IGNORED, dtype=torch.long),
        token_mask=padded([row.counted for row in rows], fill=0, dtype=torch.bool),
        index=torch.tensor([row.index for row in rows]),
    )


def _hide(row: Row, *, mask: int, special: frozenset[int], seed: int) -> tuple[Row, list[int]]:
    free = [i for i, token in enumerate(row.ids) if i > 0 and token not in special]
    found = spans(len(free), seed=seed, index=row.index)
    return labelled(row, {free[i]: mask for span in found for i in span})


CAUSAL_SPAN = Objective(
    name="causal-span",
    kinds=frozenset({"causal"}),
    batches=_batches,
    losses=model_losses,
)
