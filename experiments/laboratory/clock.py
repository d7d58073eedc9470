"""What steps really take, to hold the cost model against: adapters on, a few steps, adapters off.

The model from a card's timings (`layerwise.placement.cost`) knows the blocks, not what adapters and
the optimizer cost on this machine. Three timed placements tell the rest: see `StepFit`.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from layerwise.capture.restore import drawn_by, modules_kept
from layerwise.card.record import LayerCard
from layerwise.compat.transformers import checkpoint_blocks
from layerwise.data.batches import Batch
from layerwise.errors import BadInputError
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.placement.place import place
from layerwise.placement.record import PlacedBlock, Placement
from layerwise.placement.rows import adaptable_rows
from layerwise.tuning.lora import adapted
from layerwise.tuning.shallow import stop_at_lowest

Clock = Callable[[], float]


@dataclass(frozen=True)
class Measurement:
    """A step with adapters on some blocks.

    Attributes:
        rows: The blocks, as rows of the card.
        value: Seconds of forward, backward and optimizer step; or the most bytes in use in them
            beyond what was before.
    """

    rows: tuple[int, ...]
    value: float


@dataclass(frozen=True)
class StepFit:
    """A step's seconds (or bytes) as what a machine adds to the weights that a card gives.

    value(S) = fixed + depth * sum of weights from min(S) up + module * adapted modules in S.

    Attributes:
        fixed: What every step has: the forward, the head, the optimizer's start.
        depth: What the machine takes for one unit of weight.
        module: What one adapted module adds.
        weights: Of each block: backward seconds, or bytes kept for the backward.
        modules: Adapted modules of each block.
    """

    fixed: float
    depth: float
    module: float
    weights: tuple[float, ...]
    modules: tuple[int, ...]

    def of(self, rows: Sequence[int]) -> float:
        """Return the value with adapters on `rows`, at least one."""
        parts = _features(rows, self.weights, self.modules)
        return float(np.dot(parts, [self.fixed, self.depth, self.module]))


def _features(
    rows: Sequence[int], weights: Sequence[float], modules: Sequence[int]
) -> tuple[float, float, float]:
    return 1.0, float(sum(weights[min(rows) :])), float(sum(modules[row] for row in rows))


def anchors(card: LayerCard) -> tuple[tuple[int, ...], ...]:
    """Return the three placements that a fit is made from: the last block, the first, and all."""
    rows = adaptable_rows(card)
    return (rows[-1],), (rows[0],), tuple(rows)


def fit_seconds(
    card: LayerCard, timed: Sequence[Measurement], *, checkpointing: bool = False
) -> StepFit:
    """Return a step's seconds on the machine and in the loop that took the `timed` ones.

    A block's weight is its backward's seconds in the card's pass; with gradient checkpointing the
    forward's, too, which the backward repeats.

    Raises:
        BadInputError: There are fewer than three different placements, or the card has no timings.
    """
    weights = card.column("backward_seconds")
    return _fitted(card, timed, weights + card.column("forward_seconds") * checkpointing)


def fit_bytes(
    card: LayerCard, measured: Sequence[Measurement], *, checkpointing: bool = False
) -> StepFit:
    """Return a step's most bytes; a block's weight is what it keeps, 1 with checkpointing.

    Raises:
        BadInputError: There are fewer than three different placements, or the card has no sizes.
    """
    kept = card.column("activation_bytes")
    return _fitted(card, measured, np.ones_like(kept) if checkpointing else kept)


def _fitted(card: LayerCard, found: Sequence[Measurement], weights: np.ndarray) -> StepFit:
    """Fit least squares in relative error, none of the three below 0."""
    if not np.isfinite(weights).all():
        msg = "card without timings and sizes of every block"
        raise BadInputError(msg, value=card.model.source, hint="make the card again")
    modules = tuple(len(row.modules) for row in card.layers)
    table = np.array([_features(m.rows, tuple(weights), modules) for m in found])
    scale = np.array([m.value for m in found])
    if len(found) < 3 or np.linalg.matrix_rank(table) < 3:
        msg = "placements to fit a step's cost to"
        raise BadInputError(msg, value=len(found), expected="three that differ in depth and number")
    fixed, depth, module = _non_negative(table / scale[:, None], np.ones(len(found)))
    return StepFit(fixed, depth, module, tuple(weights.tolist()), modules)


def _non_negative(table: np.ndarray, target: np.ndarray) -> list[float]:
    """Solve least squares without negative coefficients: those that would be go, worst first."""
    kept = list(range(table.shape[1]))
    while True:
        solved = np.linalg.lstsq(table[:, kept], target, rcond=None)[0]
        if (solved >= 0.0).all():
            break
        kept.pop(int(solved.argmin()))
    found = np.zeros(table.shape[1])
    found[kept] = solved
    return [float(x) for x in found]


def errors(
    predict: Callable[[Sequence[int]], float], measured: Sequence[Measurement]
) -> np.ndarray:
    """Return |predicted - measured| / measured of each measurement."""
    return np.array([abs(predict(m.rows) - m.value) / m.value for m in measured])


def placed_rows(card: LayerCard, rows: Sequence[int]) -> Placement:
    """Return adapters of the card's rank on `rows` of it."""
    layers = [card.layers[row] for row in rows]
    return place(card, rows=[PlacedBlock(layer.stack, layer.index) for layer in layers])


# -- measuring -------------------------------------------------------------------------------------


def step_seconds(
    loaded: LoadedModel,
    objective: Objective,
    batches: Sequence[Batch],
    card: LayerCard,
    rows: Sequence[int],
    *,
    checkpointing: bool = False,
    clock: Clock = time.perf_counter,
) -> Measurement:
    """Return a training step's seconds with adapters on `rows`: the median of `batches[1:]`.

    The first one pays for warming up. The model is after what it was before.
    """
    with _training(loaded, objective, card, rows, checkpointing=checkpointing) as step:
        step(batches[0])
        seconds = [_timed(partial(step, batch), clock) for batch in batches[1:]]
    return Measurement(tuple(rows), statistics.median(seconds))


def step_bytes(
    loaded: LoadedModel,
    objective: Objective,
    batch: Batch,
    card: LayerCard,
    rows: Sequence[int],
    *,
    checkpointing: bool = False,
) -> Measurement:
    """Return the most bytes in use in a training step with adapters on `rows`, above those before.

    From the allocator's own record of every tensor: exact on a CPU, too, where a process's resident
    size says little. The optimizer's state is there before.
    """
    with _training(loaded, objective, card, rows, checkpointing=checkpointing) as step:
        step(batch)
        return Measurement(tuple(rows), float(_peak_bytes(partial(step, batch), batch)))


@contextmanager
def _training(
    loaded: LoadedModel,
    objective: Objective,
    card: LayerCard,
    rows: Sequence[int],
    *,
    checkpointing: bool,
) -> Iterator[Callable[[Batch], None]]:
    """Yield a function that makes one optimizer step of adapters on `rows`."""
    with modules_kept(loaded.model), drawn_by(0, "clock"), objective.prepare(loaded.model):
        if checkpointing:
            checkpoint_blocks(loaded.model)
        subject = adapted(loaded, placed_rows(card, rows))
        subject.model.train()
        stop_at_lowest(subject.model)
        trained = [p for p in subject.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4)
        yield partial(_step, subject.model, objective, optimizer, trained)


def _step(
    model: Any, objective: Objective, optimizer: Any, trained: Sequence[torch.Tensor], batch: Batch
) -> None:
    objective.losses(model, batch).mean().backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if batch.token_mask.is_cuda:
        torch.cuda.synchronize()


def _timed(work: Callable[[], None], clock: Clock) -> float:
    start = clock()
    work()
    return clock() - start


def _peak_bytes(work: Callable[[], None], batch: Batch) -> int:
    device = batch.token_mask.device
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as recorded:
        work()
    return _highest(recorded)


def _highest(recorded: Any) -> int:
    """Return the largest sum of allocations less frees, in the order in which they were made."""
    events = recorded.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    sizes = np.array([size for _, size in sorted(changes, key=lambda c: c[0])], dtype=np.int64)
    return int(sizes.cumsum().max(initial=0))
