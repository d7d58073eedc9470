"""The same examples in the same batches for every objective, made as they are needed.

Objectives make their own batches, and each may leave out examples that it can make nothing of. So
the examples are cut into batches here first, in an order drawn by the seed, and each objective gets
those of one batch at a time: what it draws (hidden tokens, partners, which texts it compares) is
drawn inside that batch. An example that one objective leaves out is left out for all.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from layerwise.data.batches import BatchSet
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, DataError
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.objectives.forward import refuse_too_long
from layerwise.seeds import derive, numpy_generator

#: The fewest examples that some objective compares with each other.
FEWEST = 3


@dataclass(frozen=True)
class Request:
    """The source of all batches; `seed` fixes the examples' order and what objectives draw."""

    loaded: LoadedModel
    data: TextData
    objectives: Sequence[Objective]
    batch_size: int
    max_length: int
    seed: int


@dataclass(frozen=True)
class SharedBatch:
    """One batch of every objective, about the same examples.

    Attributes:
        number: Its place in the pass.
        examples: The examples' places in the data, in the order of `Batch.index`; none where
            nothing is left that every objective can use.
        sets: By objective, the batch and what was cut on the way.
        dropped: By objective, how many examples it could make nothing of.
    """

    number: int
    examples: tuple[int, ...]
    sets: Mapping[str, BatchSet]
    dropped: Mapping[str, int]


def cut(
    count: int, *, batch_size: int, seed: int, available: int | None = None
) -> tuple[tuple[int, ...], ...]:
    """Return the places of `count` examples in batches, in an order drawn by `seed`.

    Their source has `available` rows.

    What is left in the end, where it is too little to compare, joins the last batch.

    Raises:
        BadInputError: They do not fill two batches, one for each half.
    """
    order = numpy_generator(seed, "distance order").permutation(count).tolist()
    starts = [i for i in range(0, count, batch_size) if i == 0 or count - i >= FEWEST]
    if len(starts) < 2:
        msg = "too few examples for two halves"
        least = batch_size + FEWEST
        smaller = f", or --batch-size {count // 2}" if count // 2 >= FEWEST else ""
        lacking = available is not None and available < least
        more = f"text of {least} rows" if lacking else f"--examples {least}"
        hint = f"{more} or more{smaller}"
        raise BadInputError(msg, value=count, expected=f"at least {least}", hint=hint)
    ends = [*starts[1:], count]
    return tuple(tuple(order[a:b]) for a, b in zip(starts, ends, strict=True))


def matched(request: Request, number: int, examples: Sequence[int]) -> SharedBatch:
    """Return the batch that each objective makes of those of `examples` that all of them can use.

    Raises:
        BadInputError: A text is longer than the model's positions, or the batch size or length
            limit leaves an objective nothing whatever the text.
    """
    kept, dropped = tuple(examples), Counter[str]()
    while kept:
        sets = {o.name: _made(request, o, number, kept) for o in request.objectives}
        usable = {name: {int(i) for b in s.batches for i in b.index} for name, s in sets.items()}
        if all(len(own) == len(kept) for own in usable.values()):
            return SharedBatch(number, kept, sets, dropped)
        # Again without the rest, as what is drawn may be about any example of the batch.
        dropped.update({name: len(kept) - len(own) for name, own in usable.items()})
        kept = tuple(kept[i] for i in sorted(set.intersection(*usable.values())))
    return SharedBatch(number, (), {}, dropped)


def _made(request: Request, objective: Objective, number: int, kept: Sequence[int]) -> BatchSet:
    """The batch of `kept` under `objective`; no batch where it can make nothing of any of them."""
    some = replace(request.data, examples=tuple(request.data.examples[i] for i in kept))
    try:
        made = objective.batches_for(
            request.loaded,
            some,
            # The last batch may be larger; a smaller one is too few examples, not a bad option.
            batch_size=max(request.batch_size, len(kept)),
            max_length=request.max_length,
            seed=derive(request.seed, "distance batch", number),
        )
    except DataError:
        return BatchSet((), 0, len(kept), 0)
    refuse_too_long(request.loaded.model, made.batches)
    return made
