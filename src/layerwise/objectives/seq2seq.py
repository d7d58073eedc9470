"""Batches for encoder-decoders: the encoder reads what is given, the decoder says the rest."""

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
    Rows,
    assemble,
    by_length,
    input_tensors,
    kept_rows,
    padded,
    specials,
    text_rows,
    tokenise,
)
from layerwise.data.text import TextData
from layerwise.errors import ModelError
from layerwise.shapes import Tensor

__all__ = ["answer_batches", "decoder_start", "prefix_batches"]


def decoder_start(model: Any) -> int | None:
    """Return the token that `model`'s decoder starts from, where its configuration names one."""
    for config in (model.config, getattr(model, "generation_config", None)):
        token = getattr(config, "decoder_start_token_id", None)
        if token is not None:
            return int(token)
    return None


def prefix_batches(
    tokenizer: Any, data: TextData, *, batch_size: int, max_length: int, start: int | None
) -> BatchSet:
    """Return each text's first half to read, its second half to say (ours)."""
    before, after = specials(tokenizer, [example.text for example in data.examples])
    whole = text_rows(tokenizer, data, max_length=max_length, least=len(before) + len(after) + 2)
    halves = [_halves(row, before=before, after=after) for row in whole.rows]
    return _batches(
        tokenizer, replace(whole, rows=tuple(halves)), batch_size, of=len(data), start=start
    )


def _halves(row: Row, *, before: Sequence[int], after: Sequence[int]) -> Row:
    """Return `row` split in two between its special tokens."""
    ids = list(row.ids)[len(before) : len(row.ids) - len(after)]
    middle = (len(ids) + 1) // 2
    given = [*before, *ids[:middle], *after]
    return Row(row.index, given, [True] * len(given), target=[*ids[middle:], *after])


def answer_batches(
    tokenizer: Any, data: TextData, *, batch_size: int, max_length: int, start: int | None
) -> BatchSet:
    """Return each prompt to read, its text to say; the length limit holds for either."""
    texts = [example.text for example in data.examples]
    prompts = [example.prompt or "" for example in data.examples]
    before, after = specials(tokenizer, texts)
    room = max_length - len(before) - len(after)
    rows, truncated = [], 0
    pairs = zip(tokenise(tokenizer, prompts), tokenise(tokenizer, texts), strict=True)
    for i, (prompt, answer) in enumerate(pairs):
        given, target = [*before, *prompt[:room], *after], [*answer[:room], *after]
        truncated += max(len(prompt), len(answer)) > room
        if given and answer[:room]:
            rows.append(Row(i, given, [True] * len(given), target=target))
    kept = Rows(kept_rows(rows, max_length=max_length), truncated)
    return _batches(tokenizer, kept, batch_size, of=len(data), start=start)


def _batches(
    tokenizer: Any, rows: Rows, batch_size: int, *, of: int, start: int | None
) -> BatchSet:
    if start is None:
        raise ModelError(
            what="encoder-decoder whose configuration names no first decoder token",
            expected="decoder_start_token_id in its config.json",
        )
    collate = partial(_collate, pad=tokenizer.pad_token_id, start=start)
    return assemble(rows, by_length(rows.rows, batch_size=batch_size), of=of, collate=collate)


def _collate(rows: Sequence[Row], *, pad: int | None, start: int) -> Batch:
    """`rows` for an encoder-decoder; the decoder's input is its target, one position late."""
    targets = [row.target for row in rows]
    spoken: Tensor = padded([[1] * len(t) for t in targets], fill=0, dtype=torch.long)
    decoder = {
        "decoder_input_ids": padded(
            [[start, *t[:-1]] for t in targets], fill=pad or 0, dtype=torch.long
        ),
        "decoder_attention_mask": spoken,
    }
    return Batch(
        inputs={**input_tensors(rows, pad=pad), **decoder},
        labels=padded(targets, fill=IGNORED, dtype=torch.long),
        token_mask=padded([row.counted for row in rows], fill=0, dtype=torch.bool),
        index=torch.tensor([row.index for row in rows]),
        decoder_mask=spoken.bool(),
    )
