"""Batches in which some tokens are hidden, to be told from those around them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from layerwise.data.batches import IGNORED, Batch, BatchSet, Row, kept_rows, row_batch, text_rows
from layerwise.errors import ModelError
from layerwise.objectives.record import BatchRequest


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


def hidden_batches(request: BatchRequest, *, hide: Hide) -> BatchSet:
    """Return whole texts with tokens hidden by the seed and each example's position alone.

    Raises:
        ModelError: The tokenizer has no mask token.
    """
    tokenizer = request.tokenizer
    if tokenizer.mask_token_id is None:
        raise ModelError(
            what="tokenizer has no mask token, which hides what is to be told",
            value=type(tokenizer).__name__,
            hint="another --objective",
        )
    special = frozenset(tokenizer.all_special_ids)
    ordinary = [i for i in range(len(tokenizer)) if i not in special]
    words = Vocabulary(tokenizer.mask_token_id, special, ordinary)
    rows = text_rows(tokenizer, request.data, max_length=request.max_length)
    kept = [row for row in rows.rows if not special.issuperset(row.ids)]
    rows = kept_rows(kept, truncated=rows.truncated, max_length=request.max_length)

    def collate(rows: Sequence[Row], *, pad: int | None) -> Batch:
        hidden = [labelled(row, hide(row, words, request.seed)) for row in rows]
        return row_batch([row for row, _ in hidden], pad=pad, labels=[told for _, told in hidden])

    return request.collated(rows, collate)


def labelled(row: Row, shown: dict[int, int]) -> tuple[Row, list[int]]:
    """Return `row` with the tokens `shown` in place of its own, which are the labels there."""
    ids = [shown.get(i, token) for i, token in enumerate(row.ids)]
    labels = [token if i in shown else IGNORED for i, token in enumerate(row.ids)]
    return replace(row, ids=ids), labels
