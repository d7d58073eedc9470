"""The pass: batches through a frozen model under every objective, sums of their gradients out."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import torch

from layerwise import distributed
from layerwise.capture.restore import frozen
from layerwise.data.batches import Batch
from layerwise.distance.batches import Request, SharedBatch, cut, matched
from layerwise.distance.gradients import (
    Entries,
    States,
    check_rows,
    example_gradients,
    last_states,
    prepared,
    sharing,
)
from layerwise.distance.moments import ObjectiveMoments
from layerwise.objectives import Objective
from layerwise.progress import Progress, silent
from layerwise.seeds import derive

#: Rows of each objective that are kept before they are summed up: as many as make the matrix
#: products large enough to cost little, few enough to cost no memory to speak of.
WINDOW = 1024

Rows = dict[str, np.ndarray]


@dataclass
class GradientTally:
    """What a pass has seen so far; a monoid too.

    Attributes:
        halves: The moments of batches of even and of odd number.
        entries: For both, the entries of gradients before they are averaged over tokens.
        batches: Batches of which something was left.
        tokens, truncated: What the reference objective counted, and the examples that it cut.
        left_out, dropped: Examples that not every objective could use, and the same by objective.
        shared: Objectives that shared a forward, by name.
    """

    halves: tuple[ObjectiveMoments, ObjectiveMoments] = (ObjectiveMoments(), ObjectiveMoments())
    entries: tuple[Entries, Entries] = field(default_factory=lambda: (Counter(), Counter()))
    batches: int = 0
    forwards: int = 0
    tokens: int = 0
    truncated: int = 0
    left_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    shared: dict[tuple[str, ...], None] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def merge(self, other: "GradientTally") -> "GradientTally":
        """Return both passes as one."""
        added = ("batches", "forwards", "tokens", "truncated", "left_out", "dropped")
        pairs = zip(self.halves, other.halves, strict=True)
        first, second = (mine.merge(theirs) for mine, theirs in pairs)
        return GradientTally(
            halves=(first, second),
            entries=(self.entries[0] + other.entries[0], self.entries[1] + other.entries[1]),
            shared=self.shared | other.shared,
            notes=self.notes | other.notes,
            **{name: getattr(self, name) + getattr(other, name) for name in added},
        )

    def note(self, found: SharedBatch, *, of: int, reference: str) -> None:
        """Count the batches of one chunk of `of` examples."""
        self.left_out += of - len(found.examples)
        self.dropped.update(found.dropped)
        self.notes |= dict.fromkeys(note for s in found.sets.values() for note in s.notes)
        if found.examples:
            self.batches += 1
            self.tokens += found.sets[reference].tokens
            self.truncated += found.sets[reference].truncated

    def add(self, rows: Mapping[int, Rows], *, reference: str) -> None:
        """Add the rows of some batches, by the batch's number, to their halves."""
        halves = list(self.halves)
        for half in (0, 1):
            parts = [rows[number] for number in sorted(rows) if number % 2 == half]
            if parts:
                joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
                halves[half] = halves[half].update(joined, reference=reference)
        self.halves = halves[0], halves[1]


def measure(request: Request, *, progress: Progress = silent) -> GradientTally:
    """The sums of the gradients of all objectives of `request`, the first being the reference.

    Under torch.distributed each process takes every world-size-th batch and all hold the same
    result. The model is left as it was, also when this raises.

    Raises:
        NonFiniteError: A gradient is NaN or infinite.
        BadInputError: A gradient is zero, or there are too few examples for two halves.
        ModelError: The model does not tell its last hidden state from its head.
    """
    data = request.data
    chunks = cut(
        len(data), batch_size=request.batch_size, seed=request.seed, available=data.available
    )
    numbers = range(len(chunks))[distributed.rank() :: distributed.world_size()]
    tally = GradientTally()
    with frozen(request.loaded.model, training=False, seed=request.seed):
        total = len(numbers) * len(_kinds(request.objectives))
        with closing(_work(request, chunks, numbers, tally)) as work:
            for _ in progress(work, "comparing gradients", total):
                pass
    return reduce(GradientTally.merge, distributed.all_gather(tally))


def _kinds(objectives: Sequence[Objective]) -> list[list[Objective]]:
    """Return `objectives` by how they need the model prepared."""
    kinds: dict[Any, list[Objective]] = {}
    for objective in objectives:
        kinds.setdefault((objective.prepare, objective.stochastic), []).append(objective)
    return list(kinds.values())


def _work(
    request: Request, chunks: Sequence[Sequence[int]], numbers: Sequence[int], tally: GradientTally
) -> Generator[None]:
    """Yield the pass in steps, one for each batch and way of preparing the model, into `tally`."""
    reference = request.objectives[0].name
    size = max(1, WINDOW // request.batch_size)
    with last_states(request.loaded) as states:
        for start in range(0, len(numbers), size):
            window = [matched(request, n, chunks[n]) for n in numbers[start : start + size]]
            for found in window:
                tally.note(found, of=len(chunks[found.number]), reference=reference)
            rows: dict[int, Rows] = {found.number: {} for found in window if found.examples}
            for members in _kinds(request.objectives):
                with prepared(members[0], request.loaded.model) as changed:
                    tally.notes |= dict.fromkeys(changed)
                    for found in window:
                        if found.examples:
                            made = _batch(request, found, members, tally, states)
                            rows[found.number].update(made)
                        yield
            tally.add(rows, reference=reference)


def _batch(
    request: Request,
    found: SharedBatch,
    members: Sequence[Objective],
    tally: GradientTally,
    states: States,
) -> Rows:
    """Return the rows of one batch under objectives that need the model prepared alike."""
    loaded = request.loaded
    batches: dict[str, Batch] = {o.name: found.sets[o.name].batches[0] for o in members}
    rows: Rows = {}
    for batch, group in sharing(members, batches):
        # Dropout draws by batch, not by what ran before: other objectives change nothing.
        torch.manual_seed(derive(request.seed, "dropout", found.number))
        entries = tally.entries[found.number % 2]
        rows |= example_gradients(loaded.model, batch.to(loaded.device), group, states, entries)
        tally.forwards += 1
        if len(group) > 1:
            tally.shared[tuple(o.name for o in group)] = None
    for name, own in rows.items():
        check_rows(own, objective=name, examples=found.examples)
    return rows
