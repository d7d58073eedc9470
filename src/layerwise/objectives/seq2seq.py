"""Batches for encoder-decoders: the encoder reads what is given, the decoder says the rest."""

from collections.abc import Sequence
from dataclasses import replace

from layerwise.data.batches import (
    Batch,
    BatchSet,
    Row,
    Rows,
    kept_rows,
    padded,
    row_batch,
    specials,
    text_frame,
    text_rows,
    tokenise,
)
from layerwise.errors import ModelError
from layerwise.objectives.record import BatchRequest


def prefix_batches(request: BatchRequest) -> BatchSet:
    """Return each text's first half to read, its second half to say (ours)."""
    tokenizer, data = request.tokenizer, request.data
    before, after = specials(tokenizer, [example.text for example in data.examples])
    least = len(before) + len(after) + 2
    whole = text_rows(tokenizer, data, max_length=request.max_length, least=least)
    halves = tuple(_halves(row, before=before, after=after) for row in whole.rows)
    return _batches(request, replace(whole, rows=halves))


def _halves(row: Row, *, before: Sequence[int], after: Sequence[int]) -> Row:
    """Return `row` split in two between its special tokens."""
    ids = list(row.ids)[len(before) : len(row.ids) - len(after)]
    middle = (len(ids) + 1) // 2
    given = [*before, *ids[:middle], *after]
    return Row(row.index, given, [True] * len(given), target=[*ids[middle:], *after])


def answer_batches(request: BatchRequest) -> BatchSet:
    """Return each prompt to read, its text to say; the length limit holds for either."""
    tokenizer, limit = request.tokenizer, request.max_length
    texts = [example.text for example in request.data.examples]
    prompts = [example.prompt or "" for example in request.data.examples]
    before, after, room = text_frame(tokenizer, texts, max_length=limit)
    rows, needs = list[Row](), list[int]()
    pairs = zip(tokenise(tokenizer, prompts), tokenise(tokenizer, texts), strict=True)
    for i, (prompt, answer) in enumerate(pairs):
        given, target = [*before, *prompt[:room], *after], [*answer[:room], *after]
        needs.append(max(len(prompt), len(answer)) + limit - room)
        if given and answer:
            rows.append(Row(i, given, [True] * len(given), target=target))
    return _batches(request, kept_rows(rows, needs=needs, max_length=limit))


def _batches(request: BatchRequest, rows: Rows) -> BatchSet:
    if request.decoder_start is None:
        raise ModelError(
            what="encoder-decoder whose configuration names no first decoder token",
            expected="decoder_start_token_id in its config.json",
        )
    return request.collated(rows, _collate, start=request.decoder_start)


def _collate(rows: Sequence[Row], *, pad: int | None, start: int) -> Batch:
    """`rows` for an encoder-decoder; the decoder's input is its target, one position late."""
    targets = [row.target for row in rows]
    spoken = padded([[1] * len(target) for target in targets])
    batch = row_batch(rows, pad=pad, labels=targets, decoder_mask=spoken.bool())
    decoder = {
        "decoder_input_ids": padded([[start, *t[:-1]] for t in targets], fill=pad or 0),
        "decoder_attention_mask": spoken,
    }
    return replace(batch, inputs={**batch.inputs, **decoder})
