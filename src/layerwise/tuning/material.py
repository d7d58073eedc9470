"""The data of a run: what is trained on, what is held out, and which examples each forward sees.

A run is a list of micro-batches, fixed by the seed. Two processes take turns through it, so that
with k forwards summed into a step, one process and k accumulations see what k processes see.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from torch.utils.data import Dataset

from layerwise.data.batches import Batch, BatchSet
from layerwise.data.text import TextData
from layerwise.errors import DataError
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.objectives.forward import refuse_too_long
from layerwise.seeds import derive, draw, numpy_generator
from layerwise.tuning.packing import packs_of
from layerwise.tuning.record import TuneSettings

#: Examples that are looked through at a time, to see which have something to predict.
CHUNK = 64

Packs = Sequence[Sequence[int]]

BatchesOf = Callable[[TextData, int, Packs], Sequence[Batch]]


def order(examples: int, *, batch_size: int, forwards: int, seed: int) -> list[tuple[int, ...]]:
    """Return the examples of each forward: epochs in seeded orders, cut into batches of one size.

    What is left at an epoch's end, too little for a batch, is left out of that epoch: no forward
    sees an example twice.

    Raises:
        DataError: There are fewer examples than a batch holds.
    """
    if examples < batch_size:
        message = "fewer training examples than a batch holds"
        raise DataError(
            message,
            value=examples,
            expected=f"at least {batch_size}",
            hint=f"--batch-size {max(1, examples)}",
        )
    found: list[tuple[int, ...]] = []
    epoch = 0
    while len(found) < forwards:
        mixed = numpy_generator(seed, "order", epoch).permutation(examples)
        starts = range(0, examples - batch_size + 1, batch_size)
        found += [tuple(int(i) for i in mixed[s : s + batch_size]) for s in starts]
        epoch += 1
    return found[:forwards]


def held_out(data: TextData, *, examples: int, seed: int) -> tuple[TextData, TextData]:
    """Get what is trained on and what is kept for evaluation, `examples` of them drawn by the seed.

    Raises:
        DataError: Nothing would be left to train on.
    """
    if examples >= len(data):
        message = "examples held out for evaluation"
        raise DataError(message, value=examples, expected=f"fewer than the {len(data)} there are")
    drawn = draw(len(data), examples, seed, "held out")
    kept = sorted(set(range(len(data))).difference(drawn))
    return _part(data, kept), _part(data, drawn)


def _part(data: TextData, indices: Sequence[int]) -> TextData:
    return replace(data, examples=tuple(data.examples[i] for i in indices))


@dataclass(frozen=True)
class Forward:
    """One micro-batch: the `number`-th forward of a run, which is what its dropout is seeded by."""

    number: int
    batch: Batch

    def to(self, device: Any, **_: Any) -> "Forward":
        """Return the same on `device`."""
        return replace(self, batch=self.batch.to(device))


@dataclass(frozen=True, eq=False)
class Forwards(Dataset[Forward]):
    """The forwards of a run, each made when it is asked for.

    Attributes:
        data: The examples.
        order: Positions in `data`, a tuple a forward.
        batches_of: ``batches_of(data, seed, packs)`` gives what the objective makes of some
            examples, of which packs share rows.
        seed: Fixes masks and whatever else the objective draws, anew for each forward.
        packs: The examples that share a row, of which `order` is then; none do where empty.
    """

    data: TextData
    order: Sequence[tuple[int, ...]]
    batches_of: BatchesOf
    seed: int
    packs: Packs = ()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, number: int) -> Forward:
        taken = self.order[number]
        packs = [self.packs[i] for i in taken] if self.packs else []
        examples = [i for pack in packs for i in pack] or taken
        ends = [*accumulate(map(len, packs))]
        own = [range(end - len(pack), end) for pack, end in zip(packs, ends, strict=True)]
        some = _part(self.data, examples)
        (batch,) = self.batches_of(some, derive(self.seed, "forward", number), own)
        return Forward(number, batch)


@dataclass(frozen=True)
class Material:
    """What a run is fed.

    Attributes:
        data: What was read, less what has nothing to predict.
        batches: All of it as batches: its tokens, what was cut and what was dropped.
        train: What is trained on.
        held: What is held out; None without evaluation.
        batches_of: What the objective makes of some examples under a seed, as one batch.
        coupled: Whether a row's loss depends on the others of its batch.
        packs: The examples of `train` that share a row; none do where empty.
    """

    data: TextData
    batches: BatchSet
    train: TextData
    held: TextData | None
    batches_of: BatchesOf
    coupled: bool
    packs: Packs = ()

    @property
    def rows(self) -> int:
        """Return how many rows there are to train on."""
        return len(self.packs) or len(self.train)

    def forwards(self, settings: TuneSettings, *, steps: int, processes: int) -> Forwards:
        """Return the forwards of the first `steps` steps of a run.

        Raises:
            DataError: There are fewer examples than a batch holds.
        """
        size, seed = settings.batch_size, settings.seed
        count = steps * settings.accumulation * processes
        planned = order(self.rows, batch_size=size, forwards=count, seed=seed)
        return Forwards(self.train, planned, self.batches_of, seed, self.packs)

    def evaluation(self, settings: TuneSettings) -> Forwards | None:
        """Return the forwards of an evaluation: always the same ones."""
        if self.held is None:
            return None
        size, every = settings.batch_size, range(len(self.held))
        cut = [tuple(every[i : i + size]) for i in range(0, len(every), size)]
        if self.coupled and len(cut) > 1 and len(cut[-1]) < size:  # Too few to compare, maybe.
            cut[-2:] = [(*cut[-2], *cut[-1])]
        return Forwards(self.held, cut, self.batches_of, settings.seed)


def gather(
    loaded: LoadedModel, data: TextData, objective: Objective, settings: TuneSettings
) -> Material:
    """Return the data of a run.

    Raises:
        DataError: Nothing is left to train on.
        BadInputError: Texts are longer than the model's positions, or a batch is too small.
    """

    def made(some: TextData, seed: int, size: int, packs: Packs = ()) -> BatchSet:
        return objective.batches_for(
            loaded, some, batch_size=size, max_length=settings.length, seed=seed, packs=packs
        )

    size, seed = settings.batch_size, settings.seed
    batches = made(data, seed, max(CHUNK, size))
    refuse_too_long(loaded.model, batches.batches)
    kept = _part(data, sorted({int(i) for batch in batches.batches for i in batch.index}))
    train, held = kept, None
    if settings.eval_examples:
        train, held = held_out(kept, examples=settings.eval_examples, seed=seed)
    if objective.coupled:  # Too few texts to compare shall be said now, not at the first forward.
        for some in (train, held) if held else (train,):
            made(replace(some, examples=some.examples[:size]), seed, size)
    packs: Packs = ()
    if settings.packing:
        whole = made(train, seed, CHUNK)
        packs = packs_of(loaded, objective, whole.batches, room=settings.length)
        note = f"{len(train):,} examples share {len(packs):,} rows; a batch is of rows"
        batches = replace(batches, notes=(*batches.notes, note))
    return Material(
        data=kept,
        batches=batches,
        train=train,
        held=held,
        batches_of=lambda some, seed, packs: made(some, seed, len(some), packs).batches,
        coupled=objective.coupled,
        packs=packs,
    )
