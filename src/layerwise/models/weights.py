"""Checks that a model is what its files say, and an adapter folded into its base."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from layerwise.errors import ModelError

__all__ = ["check_finite", "merge_adapter", "take_saved_modules"]


def check_finite(model: nn.Module, *, source: str) -> None:
    """Raise unless every weight of `model` is a finite number.

    Raises:
        ModelError: A weight is NaN or infinite; the first such tensor is named.
    """
    for name, parameter in model.named_parameters():
        if not _is_finite(parameter.detach()):
            message = f"weights with NaN or infinite values, first in {name}"
            raise ModelError(message, value=source, expected="finite weights")


def _is_finite(weight: torch.Tensor) -> bool:
    """A finite sum proves it without a mask as large as the weight; an overflow proves nothing."""
    if not weight.is_floating_point():
        return True
    return bool(weight.sum(dtype=torch.float32).isfinite()) or bool(weight.isfinite().all())


def merge_adapter(model: nn.Module) -> int:
    """How many adapted modules of `model` were folded into plain ones, in place.

    Works on any PEFT layer that can merge itself, told by what it can do: `merge` and
    `get_base_layer`.
    """
    layers = list(_adapted(model))
    for name, layer in layers:
        layer.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    return len(layers)


def take_saved_modules(model: nn.Module) -> list[str]:
    """The modules of `model` that an adapter was trained together with, now in their place.

    PEFT keeps such a module, a head for instance, in a wrapper beside the one it replaces.
    """
    wrappers: dict[str, Any] = {
        name: module for name, module in model.named_modules() if hasattr(module, "modules_to_save")
    }
    for name, wrapper in wrappers.items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, wrapper.modules_to_save[wrapper.active_adapter])
    return list(wrappers)


def _adapted(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The outermost modules under `module` that hold a base layer and can merge into it."""
    for name, child in module.named_children():
        if hasattr(child, "merge") and hasattr(child, "get_base_layer"):
            yield f"{prefix}{name}", child
        else:
            yield from _adapted(child, f"{prefix}{name}.")
