"""Batches in which some tokens are hidden, to be told from those around them or before them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from layerwise.data.batches import IGNORED, Batch, BatchSet, Row, kept_rows, row_batch, text_rows
from layerwise.errors import ModelError
from layerwise.objectives.record import BatchRequest

STAND_INS = ("mask", "unk", "eos")


@dataclass(frozen=True)
class Vocabulary:
    """What hiding a token needs to know.

    Attributes:
        mask: What stands in place of a hidden token.
        special: What is never hidden.
        size: How many tokens there are.
        first: The first position of a row that may be hidden.
    """

    mask: int
    special: frozenset[int]
    size: int
    first: int

    @cached_property
    def ordinary(self) -> Sequence[int]:
        """Return what may stand in for another token."""
        return [i for i in range(self.size) if i not in self.special]

    def free(self, row: Row) -> list[int]:
        """Return the positions of `row` that may be hidden."""
        return [i for i, t in enumerate(row.ids) if i >= self.first and t not in self.special]


Hide = Callable[[Row, Vocabulary, int], dict[int, int]]
"""``hide(row, vocabulary, seed)``: the token to be read at each position that is to be told."""


def hidden_batches(request: BatchRequest, *, hide: Hide, causal: bool = False) -> BatchSet:
    """Return whole texts with tokens hidden by the seed and each example's position alone.

    In a `causal` model each is told from those before it, at the position before its own. There,
    where no token masks, the unknown one hides, or else the one that ends a text (ours).

    Raises:
        ModelError: The tokenizer has no token that hides.
    """
    tokenizer, limit, first = request.tokenizer, request.max_length, int(causal)
    mask, notes = _stand_in(tokenizer, STAND_INS if causal else STAND_INS[:1])
    words = Vocabulary(mask, frozenset(tokenizer.all_special_ids), len(tokenizer), first)
    rows = text_rows(tokenizer, request.data, max_length=limit, least=1 + first)
    kept = [row for row in rows.rows if words.free(row)]
    rows = replace(kept_rows(kept, needs=rows.needs, max_length=limit), notes=notes)

    def collate(rows: Sequence[Row], *, pad: int | None) -> Batch:
        hidden = [_labelled(row, hide(row, words, request.seed)) for row in rows]
        labels = [[*told[first:], *[IGNORED] * first] for _, told in hidden]
        return row_batch([row for row, _ in hidden], pad=pad, labels=labels)

    return request.collated(rows, collate)


def _stand_in(tokenizer: Any, names: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """Return the first token of `names` that there is, and a note where it is not a mask token."""
    tokens = {name: getattr(tokenizer, f"{name}_token_id") for name in names}
    name = next((name for name in names if tokens[name] is not None), None)
    if name is None:
        raise ModelError(
            what="tokenizer has no token to hide others behind",
            value=type(tokenizer).__name__,
            expected=f"a {' or '.join(names)} token",
            hint="another --objective, such as causal-lm or simcse",
        )
    shown = getattr(tokenizer, f"{name}_token")
    note = f"the tokenizer has no mask token; {shown} hides the spans"
    return int(tokens[name]), () if name == "mask" else (note,)


def _labelled(row: Row, shown: dict[int, int]) -> tuple[Row, list[int]]:
    """Return `row` with the tokens `shown` in place of its own, which are the labels there."""
    ids = [shown.get(i, token) for i, token in enumerate(row.ids)]
    labels = [token if i in shown else IGNORED for i, token in enumerate(row.ids)]
    return replace(row, ids=ids), labels
