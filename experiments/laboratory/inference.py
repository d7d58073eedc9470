"""What adapters that are not merged into the weights cost at inference, by how many there are."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from laboratory.clock import Clock, placed_rows
from layerwise.capture.restore import modules_kept
from layerwise.card.record import LayerCard
from layerwise.data.batches import Batch
from layerwise.errors import BadInputError
from layerwise.models.load import LoadedModel
from layerwise.placement import POLICIES
from layerwise.placement.rows import adaptable_rows
from layerwise.tuning.lora import adapted


@dataclass(frozen=True)
class InferencePoint:
    """A forward with adapters on some blocks.

    Attributes:
        blocks: How many blocks have adapters.
        modules: How many modules do.
        seconds: Of one forward of the batch.
    """

    blocks: int
    modules: int
    seconds: float


@dataclass(frozen=True)
class InferenceCost:
    """A forward's time as a line in the number of adapted modules.

    Attributes:
        points: What was measured, the fewest adapters first.
        base_seconds: The line's value without adapters: also that with merged ones.
        module_seconds: What one adapted module adds.
        explained: Share of the variance of the points that the line explains.
    """

    points: tuple[InferencePoint, ...]
    base_seconds: float
    module_seconds: float
    explained: float


def inference_cost(
    loaded: LoadedModel,
    card: LayerCard,
    batch: Batch,
    *,
    blocks: Sequence[int],
    rounds: int = 5,
    clock: Clock = time.perf_counter,
) -> InferenceCost:
    """Return a forward's time with adapters on each number of `blocks`, evenly spread.

    Every round takes each number once, so that a machine that slows down slows all of them; a
    point is the median over rounds. The model is after what it was before.

    Raises:
        BadInputError: There are fewer than two different numbers to draw a line through.
    """
    rows = adaptable_rows(card)
    taken = {k: POLICIES["uniform"](card, k, rows=rows) if k else () for k in sorted(set(blocks))}
    found = {k: list[float]() for k in taken}
    for _ in range(rounds):
        for k, some in taken.items():
            found[k].append(_forward_seconds(loaded, card, batch, some, clock))
    points = tuple(
        InferencePoint(k, sum(len(card.layers[row].modules) for row in some), median)
        for (k, some), median in zip(
            taken.items(), map(statistics.median, found.values()), strict=True
        )
    )
    return line(points)


def line(points: Sequence[InferencePoint]) -> InferenceCost:
    """Return the least-squares line through `points`.

    Raises:
        BadInputError: There are fewer than two different numbers of modules.
    """
    modules = np.array([p.modules for p in points], dtype=np.float64)
    seconds = np.array([p.seconds for p in points])
    if len(set(modules.tolist())) < 2:
        msg = "numbers of adapted blocks to draw a line through"
        raise BadInputError(msg, value=len(points), expected="at least two different ones")
    slope, base = np.polyfit(modules, seconds, 1)
    rest = seconds - (base + slope * modules)
    spread = float(np.square(seconds - seconds.mean()).sum())
    explained = 1.0 - float(np.square(rest).sum()) / spread if spread > 0.0 else 1.0
    return InferenceCost(tuple(points), float(base), float(slope), explained)


def _forward_seconds(
    loaded: LoadedModel, card: LayerCard, batch: Batch, rows: Sequence[int], clock: Clock
) -> float:
    """Return the seconds of the second of two forwards with adapters; the first warms up."""
    with modules_kept(loaded.model), torch.inference_mode():
        model = adapted(loaded, placed_rows(card, rows)).model if rows else loaded.model
        model.eval()
        _forward(model, batch)
        start = clock()
        _forward(model, batch)
        return clock() - start


def _forward(model: Callable[..., object], batch: Batch) -> None:
    model(**batch.inputs)
    if batch.token_mask.is_cuda:
        torch.cuda.synchronize()
