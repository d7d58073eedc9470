"""How far each layer group moves in a step: its weights, or what LoRA adds to them.

What an adapted weight feels is LoRA's product BA: at the start B = 0, and whatever A does, nothing
moves. The change of scaling * BA is
scaling * (dB A_after + B_before dA), a matrix of rank 2r at most, whose Frobenius norm comes from
two 2r x 2r Gram matrices; the matrix of the weight's size is never formed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.compat.torch import widened
from layerwise.models.linear import weight_of
from layerwise.tuning import norms
from layerwise.tuning.equal_step import EqualStep, StepRatio
from layerwise.tuning.groups import LayerGroup

_A = ".lora_A.default.weight"


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


class StepMeter:
    """Measures steps, but for those that nobody will look at.

    Takes ||d(BA)|| / ||W|| of the groups' adapters, and without any ||dW|| / ||W|| of the trained
    weights, which the optimizer works out.

    Args:
        groups: The adapters of each layer group.
    """

    def __init__(self, groups: Mapping[str, Sequence[AdapterFactors]]) -> None:
        self._groups = groups
        self._before: Mapping[str, Sequence[tuple[Tensor, Tensor]]] | None = None

    def before(self, optimizer: EqualStep, *, wanted: bool) -> None:
        """Get ready for a step, and have it measured if it is `wanted`."""
        optimizer.measuring = wanted and not self._groups
        self._before = None
        if wanted:
            self._before = {
                name: [(norms.whole(x.a).clone(), norms.whole(x.b).clone()) for x in adapters]
                for name, adapters in self._groups.items()
            }

    def after(self, optimizer: EqualStep) -> Mapping[str, StepRatio]:
        """Return how far each group moved in the step; empty where it was not wanted."""
        if self._before is None:
            return {}
        if not self._groups:
            return optimizer.steps
        return {name: _ratio(x, self._before[name]) for name, x in self._groups.items()}


def _ratio(
    adapters: Sequence[AdapterFactors], before: Sequence[tuple[Tensor, Tensor]]
) -> StepRatio:
    pairs = zip(adapters, before, strict=True)
    moved = sum(adapter_step(a, b, x.a, x.b, x.scaling) ** 2 for x, (a, b) in pairs)
    weight = sum(x.base_norm**2 for x in adapters)
    ratio = (moved / weight) ** 0.5 if weight else None
    return StepRatio(natural=ratio, achieved=ratio)


def adapter_step(
    a_before: Tensor, b_before: Tensor, a_after: Tensor, b_after: Tensor, scaling: float = 1.0
) -> float:
    """||scaling * (B_after A_after - B_before A_before)||, in float64; shapes: `AdapterFactors`."""
    a0, b0, a1, b1 = (widened(norms.whole(t)) for t in (a_before, b_before, a_after, b_after))
    left, right = torch.cat([b1 - b0, b0], dim=1), torch.cat([a1, a1 - a0], dim=0)
    squared = float(((left.T @ left) * (right @ right.T)).sum())
    return abs(scaling) * max(squared, 0.0) ** 0.5


def adapter_factors(
    model: nn.Module, groups: Sequence[LayerGroup]
) -> dict[str, tuple[AdapterFactors, ...]]:
    """Return the LoRA adapters in each layer group of a PEFT `model` that has any."""
    found = {
        group.name: tuple(
            _factors(model.get_submodule(name.removesuffix(_A)))
            for name in group.parameters
            if name.endswith(_A)
        )
        for group in groups
    }
    return {name: adapters for name, adapters in found.items() if adapters}


def _factors(layer: Any) -> AdapterFactors:
    return AdapterFactors(
        a=layer.lora_A["default"].weight,
        b=layer.lora_B["default"].weight,
        scaling=layer.scaling["default"],
        base_norm=norms.norm([weight_of(layer.get_base_layer())]),
    )
