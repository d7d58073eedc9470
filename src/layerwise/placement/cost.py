"""What a training step costs that trains some blocks, from the times that a card measured.

Source: docs/methods.md. A step is the full forward, the backward from the top down to the
lowest adapted block (blocks below it need no gradient and keep no activations), and the work of
the adapters themselves, a third of it in the forward and two in the backward, where each product
has one for the weight and one for the input. Theirs was timed apart from the pass (older cards do
not have it) at the card's rank. What another rank adds or saves is an estimate (ours): a block's
forward seconds for each of its parameters, times the adapters' parameters, three times. A block
whose own parameters the card does not hold adds nothing so. A block that trains whole has no
adapters, and the gradient of each weight beside that of its input, a product as large as the
forward's: its backward takes the block's forward seconds more (an estimate, ours).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from layerwise.card.record import LayerCard
from layerwise.errors import PlacementError
from layerwise.placement.record import Cost, Placement

_COLUMNS = ("forward_seconds", "backward_seconds", "activation_bytes")


@dataclass(frozen=True, eq=False)
class StepCost:
    """The parts of a step's cost; arrays have one entry a block, in the order of execution.

    Attributes:
        forward: Seconds of the whole forward.
        outside_backward: Seconds of the backward in no block.
        backward: Seconds of each block's backward.
        forward_more: Seconds that training a block adds to its forward: those of its adapters.
        backward_more: The same of its backward.
        activations: Bytes that autograd keeps for each block.
    """

    forward: float
    outside_backward: float
    backward: np.ndarray
    forward_more: np.ndarray
    backward_more: np.ndarray
    activations: np.ndarray

    def backward_seconds(self, rows: Sequence[int]) -> float:
        """Return the seconds of the backward where `rows`, at least one, train."""
        blocks = self.backward[min(rows) :].sum()
        return float(self.outside_backward + blocks + self.backward_more[list(rows)].sum())

    def seconds(self, rows: Sequence[int]) -> float:
        """Return the seconds of forward and backward where `rows`, at least one, train."""
        more = float(self.forward_more[list(rows)].sum())
        return self.forward + more + self.backward_seconds(rows)

    def relative(self, rows: Sequence[int]) -> Cost:
        """Return the cost where `rows` train, relative to all blocks trained so."""
        every = range(len(self.backward))
        kept = float(self.activations[min(rows) :].sum())
        return Cost(
            step_ratio=_ratio(self.seconds(rows), self.seconds(every)),
            backward_ratio=_ratio(self.backward_seconds(rows), self.backward_seconds(every)),
            activation_ratio=_ratio(kept, float(self.activations.sum())),
        )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else 1.0


def missing_timings(card: LayerCard) -> str | None:
    """Return why no cost can be computed from `card`; None where one can."""
    missing = [name for name in _COLUMNS if not np.isfinite(card.column(name)).all()]
    if not missing:
        return None
    return f"the card does not have {', '.join(missing)} of every block"


Rank = int | Sequence[int] | None


def step_cost(card: LayerCard, *, rank: Rank = None, whole: bool = False) -> StepCost:
    """The parts of a step's cost with adapters of `rank` (default: the card's; or one a block).

    Where blocks train `whole`, there are none.

    Raises:
        PlacementError: The card has no timings.
    """
    reason = missing_timings(card)
    if reason is not None:
        msg = f"no cost without timings: {reason}"
        raise PlacementError(msg, hint="make the card again with this version")
    forward = card.column("forward_seconds")
    adapters = _adapters(card, card.capture.rank if rank is None else rank)
    return StepCost(
        forward=card.capture.outside_forward_seconds + float(forward.sum()),
        outside_backward=card.capture.outside_backward_seconds,
        backward=card.column("backward_seconds"),
        forward_more=np.zeros_like(forward) if whole else adapters,
        backward_more=forward if whole else 2.0 * adapters,
        activations=card.column("activation_bytes"),
    )


def _adapters(card: LayerCard, rank: int | Sequence[int]) -> np.ndarray:
    """Return the seconds of the forward of each block's adapters of `rank`."""
    forward, parameters = card.column("forward_seconds"), card.column("parameters")
    per_parameter = np.divide(forward, parameters, out=np.zeros_like(forward), where=parameters > 0)
    estimate = per_parameter * card.column("adapter_parameters")
    scale = np.asarray(rank) / card.capture.rank
    timed = card.column("adapter_seconds") / 3.0
    known = np.where(np.isfinite(timed), timed, estimate)
    return np.asarray(np.maximum(known + (scale - 1.0) * estimate, 0.0))


def placement_cost(
    card: LayerCard, rows: Sequence[int], *, rank: Rank = None, whole: bool = False
) -> Cost | None:
    """Return the cost of adapters on `rows`, or of training them `whole`, relative to all blocks.

    None where the card has no timings; `missing_timings` then says which.
    """
    if missing_timings(card):
        return None
    return step_cost(card, rank=rank, whole=whole).relative(rows)


def is_of(placement: Placement, card: LayerCard) -> bool:
    """Return whether `placement` was made by this very `card`: its cost goes by its seconds."""
    rows = {(layer.stack, layer.index): row for row, layer in enumerate(card.layers)}
    placed = [rows.get((block.stack, block.index)) for block in placement.blocks]
    known = [row for row in placed if row is not None]
    if placement.cost is None or len(known) < len(placed):
        return False
    ranks = [placement.rank_of(next(iter(layer.modules), "")) for layer in card.layers]
    return placement.cost == placement_cost(card, known, rank=ranks, whole=placement.whole)
