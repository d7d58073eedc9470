"""Examples as padded tensors, with what counts in the loss and in every statistic marked.

An example is tokenised into a `Row`, rows are put into batches, and a batch of rows becomes a
`Batch`. What a row's tokens mean to the loss is the objective's affair: it brings the function
that turns a batch of rows into tensors.
"""

from bisect import bisect, bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch

from layerwise.data.pictures import Sight, read_together
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, DataError, ModelError
from layerwise.shapes import Bool, Float, Int, Tensor

IGNORED = -100
"""The label of a position that no loss counts."""


@dataclass(frozen=True)
class Batch:
    """Some examples, ready for a model.

    Attributes:
        inputs: Keyword arguments of the model's forward (``input_ids``, ``attention_mask``,
            ``decoder_input_ids``, …), each (n, t). No labels: objectives compute their own loss.
        labels: Target token of each position the loss counts, -100 elsewhere, already aligned with
            the logits position that predicts it (the decoder's, in an encoder-decoder); None where
            the objective has no token targets.
        token_mask: Which tokens of ``input_ids`` count in statistics: not padding, not prompt (in
            an encoder-decoder, whose encoder reads nothing but prompt, not padding).
        decoder_mask: The same for ``decoder_input_ids``; None unless encoder-decoder.
        index: The position of each example in the data: what makes sharded runs agree.
        pooled: The position of the token whose state stands for the whole row; None where the
            objective pools nothing.
        classes: The class of each row, or where a head has several outputs or one score what each
            is to say; None where rows have none.
        seen: What each row shows beside its tokens; empty where none shows anything.
    """

    inputs: Mapping[str, Tensor]
    labels: Int[Tensor, "n _"] | None
    token_mask: Bool[Tensor, "n t"]
    index: Int[Tensor, "n"]
    decoder_mask: Bool[Tensor, "n u"] | None = None
    pooled: Int[Tensor, "n"] | None = None
    classes: Int[Tensor, "n"] | Float[Tensor, "n _"] | None = None
    seen: tuple[Sight | None, ...] = ()

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch on `device`."""
        return self._with(lambda tensor: tensor.to(device))

    def without_last(self) -> "Batch":
        """Return the batch without the rows of its last example."""
        kept = self.index != self.index[-1]
        seen = tuple(s for s, is_kept in zip(self.seen, kept.tolist(), strict=False) if is_kept)
        return replace(self._with(lambda tensor: tensor[kept]), seen=seen)

    def shown(self) -> dict[str, Tensor]:
        """Return what the model is handed beside `inputs`: what its processor makes of pictures.

        They are read each time, for the points of many pictures are too much to be kept.

        Raises:
            DataError: A picture cannot be read, or the processor writes other tokens than before.
        """
        held = [(row, sight) for row, sight in enumerate(self.seen) if sight is not None]
        if not held:
            return {}
        rows, sights = [row for row, _ in held], [sight for _, sight in held]
        ids = self.inputs["input_ids"]
        how = {"padding": "max_length", "max_length": ids.shape[1], "padding_side": "right"}
        read = dict(read_together(sights, **how, return_tensors="pt").to(ids.device))
        if not torch.equal(read.pop("input_ids"), ids[rows]):
            what = "processor writes other tokens for several rows than for one"
            raise DataError(what, value=type(sights[0].processor).__name__)
        read.pop("attention_mask", None)
        for name, value in read.items():
            if value.shape == ids[rows].shape:  # Of tokens: other rows have them too.
                read[name] = torch.zeros_like(ids)
                read[name][rows] = value
        if read.pop("labels", None) is not None:  # PaliGemma's: 0 is a question, seen both ways.
            read["token_type_ids"] = (self.token_mask.cumsum(1) > 0).long()
            read["token_type_ids"][[sight is None for sight in self.seen]] = 1
        return read

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {
            k: change(v) for k, v in held.items() if isinstance(v, torch.Tensor)
        }
        return replace(self, inputs={k: change(v) for k, v in self.inputs.items()}, **tensors)


@dataclass(frozen=True)
class BatchSet:
    """All batches of a pass, in the order in which they run.

    Attributes:
        batches: The batches.
        truncated: Examples cut at the length limit.
        dropped: Examples left out because nothing in them was left to predict.
        tokens: Tokens that count in statistics, each once.
        notes: What was assumed on the way, in words.
        needs: The length limit from which on each example is whole.
    """

    batches: tuple[Batch, ...]
    truncated: int
    dropped: int
    tokens: int
    notes: tuple[str, ...] = ()
    needs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One example as tokens.

    Attributes:
        index: Its position in the data.
        ids: Its tokens, at most the length limit of them.
        counted: Which of them are not prompt.
        target: What the decoder must say, in an encoder-decoder; else empty.
        segments: Which text of a pair each token is of, 0 or 1; empty where there is one text.
        label: The class; None where there is none.
        scores: What each output of a head is to say, in place of a class.
        starts: Where the examples begin that share the row; empty where it is one example's.
        sight: What it shows beside its tokens.
    """

    index: int
    ids: Sequence[int]
    counted: Sequence[bool]
    target: Sequence[int] = ()
    segments: Sequence[int] = ()
    label: int | None = None
    scores: tuple[float, ...] = ()
    starts: tuple[int, ...] = ()
    sight: Sight | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of some data that have something to predict, and what limit each example needs."""

    rows: tuple[Row, ...]
    truncated: int
    needs: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def tokenise(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each text, with no special token added and none cut off."""
    encoded = tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)
    return [list(ids) for ids in encoded["input_ids"]]


def specials(tokenizer: Any, texts: Sequence[str], *, times: int = 1) -> list[list[int]]:
    """Return the special tokens before, between and after a text `times` over, once or twice.

    They are read off one of `texts`.

    Raises:
        ModelError: The tokenizer does not keep the tokens of two texts when it joins them.
    """
    sample = next((text for text in texts if text.strip()), "a")
    whole = list(tokenizer(*[sample] * times, verbose=False)["input_ids"])
    bare = tokenise(tokenizer, [sample])[0]
    starts = [i for i in range(len(whole)) if whole[i : i + len(bare)] == bare]
    if len(starts) < times == 1:
        return [[], []]
    if len(starts) < times:
        raise ModelError(
            what="tokenizer that joins two texts to other tokens than theirs",
            value=type(tokenizer).__name__,
            expected="one made for pairs of texts",
        )
    starts = [starts[0], starts[-1]][:times]
    ends = [0, *(start + len(bare) for start in starts)]
    return [whole[end:start] for end, start in zip(ends, [*starts, len(whole)], strict=True)]


def text_frame(
    tokenizer: Any, texts: Sequence[str], *, max_length: int
) -> tuple[list[int], list[int], int]:
    """Return the special tokens before and after a text, and how many of its own find room.

    Raises:
        BadInputError: None does.
    """
    before, after = specials(tokenizer, texts)
    taken = len(before) + len(after)
    if taken >= max_length:
        raise BadInputError(
            what="length limit leaves no room for text",
            value=max_length,
            expected=f"at least {taken + 1}",
            hint="--max-length N",
        )
    return before, after, max_length - taken


def text_rows(tokenizer: Any, data: TextData, *, max_length: int, least: int = 1) -> Rows:
    """Return each example's text alone, between the tokenizer's special tokens.

    Args:
        tokenizer: The model's.
        data: The examples.
        max_length: The most tokens of a row, special ones included.
        least: The fewest tokens that leave something to predict; shorter rows are dropped.
    """
    if any(example.ids is not None for example in data.examples):
        return _token_rows(tokenizer, data, max_length=max_length, least=least)
    texts = [example.text for example in data.examples]
    before, after, room = text_frame(tokenizer, texts, max_length=max_length)
    ids = tokenise(tokenizer, texts)
    whole = [[*before, *tokens[:room], *after] if tokens else [] for tokens in ids]
    rows = [Row(i, row, [True] * len(row)) for i, row in enumerate(whole) if len(row) >= least]
    needs = [len(tokens) + max_length - room for tokens in ids]
    return kept_rows(rows, needs=needs, max_length=max_length)


def _token_rows(tokenizer: Any, data: TextData, *, max_length: int, least: int) -> Rows:
    """Return the rows of examples that came as tokens, which have their special tokens."""
    rows = []
    for i, example in enumerate(data.examples):
        ids = example.ids or ()
        if odd := [token for token in ids if not 0 <= token < len(tokenizer)]:
            raise DataError(
                what=f"tokens of example {i + 1} are not this tokenizer's",
                value=odd[0],
                expected=f"0 to {len(tokenizer) - 1}",
            )
        rows.append(Row(i, ids, example.counted or [True] * len(ids)))
    return cut(rows, max_length=max_length, least=least)


def prompted_rows(tokenizer: Any, data: TextData, *, max_length: int) -> Rows:
    """Return each example's prompt and text, joined plainly; an overlong text loses its end."""
    texts = [example.text for example in data.examples]
    before, after, _ = text_frame(tokenizer, texts, max_length=max_length)
    prompts = tokenise(tokenizer, [example.prompt or "" for example in data.examples])
    rows = []
    for i, (prompt, answer) in enumerate(zip(prompts, tokenise(tokenizer, texts), strict=True)):
        start = len(before) + len(prompt)
        ids = [*before, *prompt, *answer, *after]
        rows.append(Row(i, ids, [position >= start for position in range(len(ids))]))
    return cut(rows, max_length=max_length)


def cut(rows: Sequence[Row], *, max_length: int, least: int = 2) -> Rows:
    """Return `rows` without what lies beyond `max_length`, as far as there is a target left.

    A row's first `least` - 1 tokens are no target. A row that shows pictures is never cut.
    """
    short = [
        replace(row, ids=row.ids[:max_length], counted=row.counted[:max_length])
        for row in rows
        if row.sight is None or len(row.ids) <= max_length
    ]
    kept = [row for row in short if any(row.counted[least - 1 :])]
    return kept_rows(kept, needs=[len(row.ids) for row in rows], max_length=max_length)


def kept_rows(rows: Sequence[Row], *, needs: Sequence[int], max_length: int) -> Rows:
    """Return `rows`, of which there is at least one; examples that need more were cut.

    Raises:
        DataError: There is none.
    """
    what, truncated = (
        "nothing is left to predict in any example",
        sum(n > max_length for n in needs),
    )
    if not rows and truncated:
        what += ": each is longer than the length limit before its text begins, or too short"
        expected, hint = "an example that fits", "--max-length N"
        raise DataError(what, value=max_length, expected=expected, hint=hint)
    if not rows:
        expected = "an example in which a token follows on another"
        raise DataError(what=f"{what}: each is a single token, or none", expected=expected)
    return Rows(tuple(rows), truncated, tuple(needs))


def by_length(rows: Iterable[Row], *, batch_size: int) -> list[list[Row]]:
    """Return `rows` in batches, longest first: little padding, and the largest fails soonest."""
    ordered = sorted(rows, key=lambda row: (-len(row.ids) - len(row.target), row.index))
    return [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]


def best_fit(sizes: Sequence[int], *, room: int) -> list[tuple[int, ...]]:
    """Return which of `sizes` go together into rows of `room`: best fit, the largest first.

    Each goes where the least room is left after it, of several such rows into that which came to
    it first, as TRL packs with its strategy ``bfd``.
    """
    rows: list[list[int]] = []
    left: list[tuple[int, int, int]] = []  # The room of each row, since when, and its number.
    for time, place in enumerate(sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))):
        at = bisect_left(left, (sizes[place], -1))
        space, _, number = left.pop(at) if at < len(left) else (room, 0, len(rows))
        if number == len(rows):
            rows.append([])
        rows[number].append(place)
        insort(left, (space - sizes[place], time, number))
    return [tuple(sorted(row)) for row in rows]


def packed(rows: Iterable[Row], packs: Iterable[Sequence[int]]) -> list[Row]:
    """Return `rows` put together: those of the examples of each of `packs` are one.

    A row's index is its first example's.
    """
    by_index = {row.index: row for row in rows}
    made = []
    for pack in packs:
        parts = [by_index[i] for i in pack]
        ends = [*accumulate(len(part.ids) for part in parts)]
        ids = [token for part in parts for token in part.ids]
        counted = [counts for part in parts for counts in part.counted]
        made.append(Row(parts[0].index, ids, counted, starts=(0, *ends[:-1])))
    return made


def assemble(
    rows: Rows,
    groups: Iterable[Sequence[Row]],
    *,
    of: int,
    collate: Callable[[Sequence[Row]], Batch],
) -> BatchSet:
    """The batches that `collate` makes of `groups`, which share out the rows of `of` examples."""
    batches = tuple(collate(group) for group in groups)
    tokens = sum(sum(row.counted) + len(row.target) for row in rows.rows)
    dropped = of - len(rows.rows)
    return BatchSet(batches, rows.truncated, dropped, tokens, rows.notes, rows.needs)


def padded(
    sequences: Sequence[Sequence[Any]], *, fill: int = 0, dtype: torch.dtype = torch.long
) -> Tensor:
    """Return the sequences as the rows of one tensor, filled on the right."""
    width = max(len(sequence) for sequence in sequences)
    whole = [[*sequence, *([fill] * (width - len(sequence)))] for sequence in sequences]
    return torch.tensor(whole, dtype=dtype)


def input_tensors(rows: Sequence[Row], *, pad: int | None) -> dict[str, Tensor]:
    """Return ``input_ids`` and ``attention_mask`` of `rows`; what pads is masked out of everything.

    Rows of two texts have ``token_type_ids`` too.
    """
    tensors = {"input_ids": padded([row.ids for row in rows], fill=pad or 0)}
    if any(row.starts for row in rows):
        # Positions that begin anew tell transformers that examples share a row, without a mask.
        own = [(range(len(row.ids)), row.starts or (0,)) for row in rows]
        places = [[i - starts[bisect(starts, i) - 1] for i in row] for row, starts in own]
        tensors["position_ids"] = padded(places)
    else:
        tensors["attention_mask"] = padded([[1] * len(row.ids) for row in rows])
    if any(row.segments for row in rows):
        tensors["token_type_ids"] = padded([row.segments for row in rows])
    return tensors


def row_batch(
    rows: Sequence[Row],
    *,
    pad: int | None,
    labels: Sequence[Sequence[int]] | None = None,
    **others: Tensor,
) -> Batch:
    """Return `rows` as one batch.

    Args:
        rows: Its rows.
        pad: The token that pads them.
        labels: Of each row, aligned with the logits; None where no token is told.
        others: The other tensors of the batch, by its fields.
    """
    return Batch(
        inputs=input_tensors(rows, pad=pad),
        labels=None if labels is None else padded(labels, fill=IGNORED),
        token_mask=padded([row.counted for row in rows], dtype=torch.bool),
        index=torch.tensor([row.index for row in rows]),
        seen=tuple(row.sight for row in rows) if any(row.sight for row in rows) else (),
        **others,
    )


def causal_batch(rows: Sequence[Row], *, pad: int | None) -> Batch:
    """Return `rows` for a causal model: a position's label is the next token, where that counts."""
    labels = [
        [token if counts else IGNORED for token, counts in zip(row.ids, row.counted, strict=True)]
        for row in rows
    ]
    for row, own in zip(rows, labels, strict=True):
        for start in row.starts:  # What begins an example does not follow from the one before.
            own[start] = IGNORED
    return row_batch(rows, pad=pad, labels=[[*row[1:], IGNORED] for row in labels])


def class_batch(rows: Sequence[Row], *, pad: int | None) -> Batch:
    """Return `rows` for a model that tells the class of each, or scores; all have the same."""
    own = [row.scores or row.label for row in rows]
    return row_batch(rows, pad=pad, classes=torch.tensor(own))
