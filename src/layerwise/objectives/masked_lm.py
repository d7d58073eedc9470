"""Masked language modelling: the tokens that were hidden, from those around them.

As in BERT (arXiv 1810.04805, section 3.1): 15% of the tokens are to be predicted; of these 80% are
replaced by the mask token, 10% by a random token, 10% are left as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
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
from layerwise.data.text import TextData
from layerwise.errors import ModelError
from layerwise.models.kind import ModelKind
from layerwise.objectives.record import Objective
from layerwise.objectives.token_loss import model_losses
from layerwise.seeds import numpy_generator

__all__ = ["MASKED_LM"]

CHOSEN, MASKED, RANDOM = 0.15, 0.8, 0.1


@dataclass(frozen=True)
class _Vocabulary:
    """What hiding a token needs to know: the mask, what is never hidden, what may stand in."""

    mask: int
    special: frozenset[int]
    ordinary: Sequence[int]
    pad: int | None


def _vocabulary(tokenizer: Any) -> _Vocabulary:
    if tokenizer.mask_token_id is None:
        raise ModelError(
            what="tokenizer has no mask token, which masked-lm needs",
            value=type(tokenizer).__name__,
            hint="another --objective",
        )
    special = frozenset(tokenizer.all_special_ids)
    ordinary = [i for i in range(len(tokenizer)) if i not in special]
    return _Vocabulary(tokenizer.mask_token_id, special, ordinary, tokenizer.pad_token_id)


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
    """Whole texts with tokens hidden by the seed and each example's position alone."""
    del kind, decoder_start
    words = _vocabulary(tokenizer)
    rows = text_rows(tokenizer, data, max_length=max_length)
    kept = [row for row in rows.rows if not words.special.issuperset(row.ids)]
    rows = replace(rows, rows=kept_rows(kept, max_length=max_length))
    return assemble(
        rows,
        by_length(rows.rows, batch_size=batch_size),
        of=len(data),
        collate=lambda group: _collate(group, words=words, seed=seed),
    )


def _collate(rows: Sequence[Row], *, words: _Vocabulary, seed: int) -> Batch:
    hidden = [_hide(row, words=words, seed=seed) for row in rows]
    return Batch(
        inputs=input_tensors([row for row, _ in hidden], pad=words.pad),
        labels=padded([labels for _, labels in hidden], fill=IGNORED, dtype=torch.long),
        token_mask=padded([row.counted for row in rows], fill=0, dtype=torch.bool),
        index=torch.tensor([row.index for row in rows]),
    )


def _hide(row: Row, *, words: _Vocabulary, seed: int) -> tuple[Row, list[int]]:
    """`row` with some of its ordinary tokens hidden, at least one, and their labels."""
    random = numpy_generator(seed, "masked-lm", row.index)
    free = [i for i, token in enumerate(row.ids) if token not in words.special]
    chosen = random.choice(free, size=max(1, round(CHOSEN * len(free))), replace=False)
    ids, labels = list(row.ids), [IGNORED] * len(row.ids)
    for i in chosen:
        labels[i] = ids[i]
        ids[i] = _stand_in(ids[i], words=words, random=random)
    return replace(row, ids=ids), labels


def _stand_in(token: int, *, words: _Vocabulary, random: np.random.Generator) -> int:
    """What is read in place of `token`."""
    draw = random.random()
    if draw < MASKED:
        return words.mask
    return int(random.choice(words.ordinary)) if draw < MASKED + RANDOM else token


MASKED_LM = Objective(
    name="masked-lm",
    kinds=frozenset({"masked"}),
    make_batches=_make_batches,
    losses=model_losses,
)
