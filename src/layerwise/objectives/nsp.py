"""Next-sentence prediction: whether the second text goes on from the first.

As in BERT (arXiv 1810.04805, section 3.1): half of the pairs are true. Each example's text is cut
in two at the end of the sentence that is nearest to its middle, or at the word where it is one
sentence (ours). The second text of a pair is the second half of the same example or, where a coin
says so, of another one. What is too long loses the beginning of the first text and the end of the
second, so that the two still meet (ours).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.data.batches import (
    Batch,
    BatchSet,
    Row,
    class_batch,
    kept_rows,
    specials,
    tokenise,
)
from layerwise.errors import BadInputError, DataError
from layerwise.objectives.forward import class_losses
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.seeds import numpy_generator
from layerwise.shapes import Tensor

# The classes of transformers' heads.
NEXT, OTHER = 0, 1
LEAST = 2
_SENTENCE_ENDS = re.compile(r"""((?<=[.!?…])|(?<=[.!?…]["')\]]))\s+|\n+""")
_WORD_ENDS = re.compile(r"\s+")


def halves(text: str) -> tuple[str, str] | None:
    """`text` cut in two at the boundary nearest its middle; None where it is a single word."""
    text = text.strip()
    for ends in (_SENTENCE_ENDS, _WORD_ENDS):
        cuts = [m.span() for m in ends.finditer(text) if m.start() > 0 and m.end() < len(text)]
        if cuts:
            start, end = min(cuts, key=lambda cut: abs(sum(cut) - len(text)))
            return text[:start], text[end:]
    return None


@dataclass(frozen=True)
class _Pairs:
    """Both halves of each example that has two, as tokens, and how a pair is framed."""

    index: Sequence[int]
    first: Sequence[Sequence[int]]
    second: Sequence[Sequence[int]]
    frame: list[list[int]]
    room: int


def _batches(request: BatchRequest) -> BatchSet:
    """Return pairs of halves by the seed and each example's position."""
    pairs = _pairs(request)
    rows, needs, count = [], [], len(pairs.index)
    for i, index in enumerate(pairs.index):
        random = numpy_generator(request.seed, "nsp", index)
        partner, label = i, NEXT
        if random.random() >= 0.5:
            partner, label = (i + int(random.integers(1, count))) % count, OTHER
        first, second = pairs.first[i], pairs.second[partner]
        needs.append(len(first) + len(second) + request.max_length - pairs.room)
        rows.append(_row(pairs, index, first, second, label=label))
    kept = kept_rows(rows, needs=needs, max_length=request.max_length)
    return request.collated(kept, class_batch)


def _pairs(request: BatchRequest) -> _Pairs:
    """Return the halves of the examples of `request`.

    Raises:
        BadInputError: The length limit leaves no room for a token of each half.
        DataError: Fewer than two examples have two halves.
    """
    tokenizer, texts = request.tokenizer, [e.text for e in request.data.examples]
    cut = {i: parts for i, text in enumerate(texts) if (parts := halves(text))}
    if len(cut) < LEAST:
        raise DataError(
            what="nsp needs other texts to take a second half from",
            value=len(cut),
            expected=f"at least {LEAST} examples of two words or more",
        )
    frame = specials(tokenizer, texts, times=2)
    taken = sum(map(len, frame))
    if request.max_length < taken + 2:
        raise BadInputError(
            what="length limit leaves no room for two texts",
            value=request.max_length,
            expected=f"at least {taken + 2}",
            hint="--max-length N",
        )
    first, second = (tokenise(tokenizer, [p[side] for p in cut.values()]) for side in (0, 1))
    return _Pairs(tuple(cut), first, second, frame, request.max_length - taken)


def _row(
    pairs: _Pairs, index: int, first: Sequence[int], second: Sequence[int], *, label: int
) -> Row:
    """Return a framed pair; the longer text is cut first, down to half of the room."""
    before, between, after = pairs.frame
    keep = max(pairs.room - len(second), pairs.room // 2)
    ids_a = [*before, *first[-keep:], *between]
    ids_b = [*second[: pairs.room - len(first[-keep:])], *after]
    return Row(
        index,
        [*ids_a, *ids_b],
        [True] * (len(ids_a) + len(ids_b)),
        segments=[0] * len(ids_a) + [1] * len(ids_b),
        label=label,
    )


def _logits(model: Any, batch: Batch) -> Tensor:
    """Return the logits of both classes, shape (n, 2)."""
    output = model(**batch.inputs)
    both = "seq_relationship_logits" in output
    logits: Tensor = output["seq_relationship_logits" if both else "logits"]
    return logits


NSP = Objective(
    name="nsp",
    kinds=frozenset({"masked", "encoder"}),
    batches=_batches,
    losses=lambda model, batch: class_losses(_logits(model, batch), batch),
    class_logits=_logits,
    needs_next_sentence=True,
)
