"""Batches in which some tokens are hidden, to be told from those around them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from layerwise.objectives.record import BatchRequest

__all__ = ["Hide", "Vocabulary", "hidden_batches", "labelled"]


@dataclass(frozen=True)
class Vocabulary:
    """What hiding a token needs to know.

    Attributes:
        mask: What stands in place of a hidden token.
        special: What is never hidden.
        ordinary: What may stand in for another token.
    """

    mask: int
    special: frozenset[int]
    ordinary: Sequence[int]


Hide = Callable[[Row, Vocabulary, int], dict[int, int]]
"""``hide(row, vocabulary, seed)``: the token to be read at each position that is to be told."""


def vocabulary(tokenizer: Any) -> Vocabulary:
    """Return the tokens of `tokenizer`.

    Raises:
        ModelError: It has no mask token.
    """
    if tokenizer.mask_token_id is None:
        raise ModelError(
            what="tokenizer has no mask token, which hides what is to be told",
            value=type(tokenizer).__name__,
            hint="another --objective",
        )
    special = frozenset(tokenizer.all_special_ids)
    ordinary = [i for i in range(len(tokenizer)) if i not in special]
    return Vocabulary(tokenizer.mask_token_id, special, ordinary)


def hidden_batches(request: BatchRequest, *, hide: Hide) -> BatchSet:
    """Return whole texts with tokens hidden by the seed and each example's position alone."""
    words = vocabulary(request.tokenizer)
    rows = text_rows(request.tokenizer, request.data, max_length=request.max_length)
    kept = [row for row in rows.rows if not words.special.issuperset(row.ids)]
    rows = replace(rows, rows=kept_rows(kept, max_length=request.max_length))
    return assemble(
        rows,
        by_length(rows.rows, batch_size=request.batch_size),
        of=len(request.data),
        collate=partial(_collate, hide=hide, words=words, request=request),
    )


def _collate(rows: Sequence[Row], *, hide: Hide, words: Vocabulary, request: BatchRequest) -> Batch:
    hidden = [labelled(row, hide(row, words, request.seed)) for row in rows]
    return Batch(
        inputs=input_tensors([row for row, _ in hidden], pad=request.tokenizer.pad_token_id),
        labels=padded([labels for _, labels in hidden], fill=IGNORED, dtype=torch.long),
        token_mask=padded([row.counted for row in rows], fill=0, dtype=torch.bool),
        index=torch.tensor([row.index for row in rows]),
    )


def labelled(row: Row, shown: dict[int, int]) -> tuple[Row, list[int]]:
    """Return `row` with the tokens `shown` in place of its own, which are the labels there."""
    ids = [shown.get(i, token) for i, token in enumerate(row.ids)]
    labels = [token if i in shown else IGNORED for i, token in enumerate(row.ids)]
    return replace(row, ids=ids), labels
