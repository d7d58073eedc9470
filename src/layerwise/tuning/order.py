"""Which examples each forward of a run sees: fixed by the seed, whatever the number of processes.

A run is a list of micro-batches. Two processes take turns through it, so that with k forwards
summed into a step, one process and k accumulations see what k processes see.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import Dataset

from layerwise.data.batches import Batch
from layerwise.data.text import TextData
from layerwise.errors import DataError
from layerwise.seeds import derive, numpy_generator

__all__ = ["Forward", "Forwards", "held_out", "order"]

BatchesOf = Callable[[TextData, int], Sequence[Batch]]


def order(examples: int, *, batch_size: int, forwards: int, seed: int) -> list[tuple[int, ...]]:
    """Return the examples of each forward: epochs in seeded orders, cut into batches of one size.

    What is left at an epoch's end, too little for a batch, is left out of that epoch: no forward
    sees an example twice.

    Raises:
        DataError: There are fewer examples than a batch holds.
    """
    if examples < batch_size:
        msg = "fewer training examples than a batch holds"
        raise DataError(
            msg,
            value=examples,
            expected=f"at least {batch_size}",
            hint=f"--batch-size {max(1, examples)}, or more --examples",
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
        msg = "examples held out for evaluation"
        raise DataError(msg, value=examples, expected=f"fewer than the {len(data)} there are")
    drawn = set(numpy_generator(seed, "held out").permutation(len(data))[:examples].tolist())
    kept = [i for i in range(len(data)) if i not in drawn]
    return _part(data, kept), _part(data, sorted(drawn))


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


class Forwards(Dataset[Forward]):
    """The forwards of a run, each made when it is asked for.

    Args:
        data: The examples.
        order: Positions in `data`, a tuple a forward.
        batches_of: ``batches_of(data, seed)`` gives what the objective makes of some examples.
        seed: Fixes masks and whatever else the objective draws, anew for each forward.
    """

    def __init__(
        self,
        data: TextData,
        order: Sequence[tuple[int, ...]],
        *,
        batches_of: BatchesOf,
        seed: int,
    ) -> None:
        self._data, self._order = data, order
        self._batches_of, self._seed = batches_of, seed

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: int) -> Forward:
        some = _part(self._data, self._order[number])
        (batch,) = self._batches_of(some, derive(self._seed, "forward", number))
        return Forward(number, batch)
