"""How far LoRA's product BA moved: what an adapted weight feels, in which A and B take no part.

At the start B = 0: whatever A does, nothing moves. The change of scaling * BA is
scaling * (dB A_after + B_before dA), a matrix of rank 2r at most, whose Frobenius norm comes from
two 2r x 2r Gram matrices; the matrix of the weight's size is never formed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from layerwise.tuning.equal_step import StepRatio

__all__ = ["AdapterFactors", "adapter_step", "adapter_steps", "remember"]

Remembered = Mapping[str, Sequence[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class AdapterFactors:
    """The adapter of one linear module.

    Attributes:
        a: LoRA's A, shape (rank, inputs).
        b: LoRA's B, shape (outputs, rank).
        scaling: What BA is multiplied with: alpha / rank.
        base_norm: ||W|| of the weight that it is added to.
    """

    a: Tensor
    b: Tensor
    scaling: float
    base_norm: float


def adapter_step(
    a_before: Tensor, b_before: Tensor, a_after: Tensor, b_after: Tensor, scaling: float = 1.0
) -> float:
    """||scaling * (B_after A_after - B_before A_before)||, in float64.

    Args:
        a_before: LoRA's A, shape (rank, inputs).
        b_before: LoRA's B, shape (outputs, rank).
        a_after: A after the step.
        b_after: B after the step.
        scaling: What the product is multiplied with.
    """
    a0, b0, a1, b1 = (_whole(t).double() for t in (a_before, b_before, a_after, b_after))
    left, right = torch.cat([b1 - b0, b0], dim=1), torch.cat([a1, a1 - a0], dim=0)
    squared = float(((left.T @ left) * (right @ right.T)).sum())
    return abs(scaling) * max(squared, 0.0) ** 0.5


def remember(groups: Mapping[str, Sequence[AdapterFactors]]) -> Remembered:
    """Copies of all A and B before a step, for `adapter_steps`."""
    return {
        name: [(_whole(x.a).clone(), _whole(x.b).clone()) for x in adapters]
        for name, adapters in groups.items()
    }


def adapter_steps(
    groups: Mapping[str, Sequence[AdapterFactors]], before: Remembered
) -> dict[str, StepRatio]:
    """Give each group's ||d(BA)|| / ||W|| since `before`, over the adapted modules of the group."""
    return {name: _ratio(adapters, before[name]) for name, adapters in groups.items()}


def _ratio(
    adapters: Sequence[AdapterFactors], before: Sequence[tuple[Tensor, Tensor]]
) -> StepRatio:
    moved = sum(
        adapter_step(a, b, x.a, x.b, x.scaling) ** 2
        for x, (a, b) in zip(adapters, before, strict=True)
    )
    weight = sum(x.base_norm**2 for x in adapters)
    ratio = (moved / weight) ** 0.5 if weight else None
    return StepRatio(natural=ratio, achieved=ratio)


def _whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()
