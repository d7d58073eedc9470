"""Causal span prediction: spans of tokens that the input hides, from what comes before them.

The spans of `layerwise.objectives.spans`, among the tokens that have one before them. In the input
each of their tokens is replaced by the mask token, or else the unknown token, or else the token
that ends a text (that order is ours). The loss is on their tokens alone: the one at position t is
told at position t - 1, which sees the tokens of the span before it as hidden (arXiv 2604.17177).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from layerwise.data.batches import IGNORED, Batch, BatchSet, Row, kept_rows, row_batch, text_rows
from layerwise.errors import ModelError
from layerwise.objectives.hidden import labelled
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.objectives.spans import spans
from layerwise.objectives.token_loss import model_losses

STAND_INS = ("mask", "unk", "eos")


def _batches(request: BatchRequest) -> BatchSet:
    """Return whole texts with spans hidden by the seed and each example's position alone."""
    tokenizer, limit = request.tokenizer, request.max_length
    mask, notes = _stand_in(tokenizer)
    special = frozenset(tokenizer.all_special_ids)
    rows = text_rows(tokenizer, request.data, max_length=limit, least=2)
    kept = [row for row in rows.rows if not special.issuperset(row.ids[1:])]
    rows = replace(kept_rows(kept, truncated=rows.truncated, max_length=limit), notes=notes)
    return request.collated(rows, _collate, mask=mask, special=special, seed=request.seed)


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
    rows: Sequence[Row], *, pad: int | None, mask: int, special: frozenset[int], seed: int
) -> Batch:
    hidden = []
    for row in rows:
        free = [i for i, token in enumerate(row.ids) if i > 0 and token not in special]
        found = spans(len(free), seed=seed, index=row.index)
        hidden.append(labelled(row, {free[i]: mask for span in found for i in span}))
    labels = [[*told[1:], IGNORED] for _, told in hidden]
    return row_batch([row for row, _ in hidden], pad=pad, labels=labels)


CAUSAL_SPAN = Objective(
    name="causal-span", kinds=frozenset({"causal"}), batches=_batches, losses=model_losses
)
