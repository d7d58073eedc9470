"""How far each layer group moves in a step: its weights, or what LoRA adds to them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import nn

from layerwise.tuning import norms
from layerwise.tuning.adapter_step import AdapterFactors, adapter_steps, remember
from layerwise.tuning.equal_step import EqualStep, StepRatio
from layerwise.tuning.groups import LayerGroup

__all__ = ["AdapterMeter", "Meter", "WeightMeter", "adapter_factors"]

_A = ".lora_A.default.weight"


@runtime_checkable
class Meter(Protocol):
    """Measures steps, but for those that nobody will look at."""

    def before(self, optimizer: EqualStep, *, wanted: bool) -> None:
        """Get ready for a step."""
        ...

    def after(self, optimizer: EqualStep) -> Mapping[str, StepRatio]:
        """Return how far each group moved in the step; empty where it was not wanted."""
        ...


class WeightMeter:
    """Takes ||dW|| / ||W|| of the trained weights, which the optimizer works out."""

    def before(self, optimizer: EqualStep, *, wanted: bool) -> None:
        """Have the step measured if it is `wanted`."""
        optimizer.measuring = wanted

    def after(self, optimizer: EqualStep) -> Mapping[str, StepRatio]:
        """Return what the optimizer measured."""
        return optimizer.steps if optimizer.measuring else {}


class AdapterMeter:
    """Takes ||d(BA)|| / ||W||: A and B matter only by their product, and beside what it adds to.

    Args:
        groups: The adapters of each layer group.
    """

    def __init__(self, groups: Mapping[str, Sequence[AdapterFactors]]) -> None:
        self._groups = groups
        self._before: Any = None

    def before(self, optimizer: EqualStep, *, wanted: bool) -> None:
        """Remember A and B if the step is `wanted`."""
        optimizer.measuring = False
        self._before = remember(self._groups) if wanted else None

    def after(self, optimizer: EqualStep) -> Mapping[str, StepRatio]:
        """Return how far the products moved."""
        del optimizer
        return {} if self._before is None else adapter_steps(self._groups, self._before)


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
        base_norm=norms.norm([layer.get_base_layer().weight]),
    )
