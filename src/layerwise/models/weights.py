"""Checks that a model is what its files say, and an adapter folded into its base."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layerwise.compat.transformers import load_adapter
from layerwise.errors import ModelError

#: What transformers keeps on a model of the adapter, or the weights, that it read last.
_OF_LOADING = ("_hf_peft_config_loaded", "_weight_conversions", "peft_config")


def check_finite(model: nn.Module, *, source: str) -> None:
    """Raise unless every weight of `model` is a finite number.

    Raises:
        ModelError: A weight is NaN or infinite; the first such tensor is named.
    """
    for name, parameter in model.named_parameters():
        weight = parameter.detach()
        if not weight.is_floating_point() or bool(weight.sum(dtype=torch.float32).isfinite()):
            continue  # The sum needs no mask as large as the weight; an overflow proves nothing.
        if not bool(weight.isfinite().all()):
            message = f"weights with NaN or infinite values, first in {name}"
            raise ModelError(message, value=source, expected="finite weights")


def merge_adapter(model: Any, folder: Path) -> tuple[Any, int, list[str]]:
    """Fold the adapter in `folder` into the weights of `model`, whose modules are plain after.

    Works on any PEFT layer that can merge itself, told by what it can do: `merge` and
    `get_base_layer`. Nothing of PEFT is left on the model: not what says that it has an adapter,
    nor how transformers had renamed the adapter's weights, which it would undo when it saves.

    Returns:
        What transformers reports of reading it, how many adapted modules were folded in, and the
        names of those that the adapter brought whole.
    """
    own = {name: vars(model)[name] for name in _OF_LOADING if name in vars(model)}
    report = load_adapter(model, folder)
    layers = list(_adapted(model))
    for name, layer in layers:
        layer.merge(safe_merge=True)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.get_base_layer())
    brought = _take_saved_modules(model)
    for name in _OF_LOADING:
        vars(model).pop(name, None)
    vars(model).update(own)
    return report, len(layers), brought


def refuse_unfit(report: Any, *, source: str, lacking: str) -> None:
    """Raise unless transformers' or PEFT's `report` of reading an adapter says that it fits.

    Raises:
        ModelError: Weights are missing, or the base is `lacking` what it is to sit on.
    """
    missing = sorted(getattr(report, "missing_keys", ()))
    if missing or lacking:
        message = "adapter that does not fit its base model"
        lacking = f"weights for {', '.join(missing[:3])}" if missing else lacking
        raise ModelError(message, value=source, expected=lacking)


def _take_saved_modules(model: nn.Module) -> list[str]:
    """Put modules that an adapter brought, kept by PEFT in wrappers, in their place; give names."""
    wrappers: dict[str, Any] = {
        name: module for name, module in model.named_modules() if hasattr(module, "modules_to_save")
    }
    for name, wrapper in wrappers.items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, wrapper.modules_to_save[wrapper.active_adapter])
    return list(wrappers)


def _adapted(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the outermost modules under `module` that hold a base layer and can merge into it."""
    for name, child in module.named_children():
        if hasattr(child, "merge") and hasattr(child, "get_base_layer"):
            yield f"{prefix}{name}", child
        else:
            yield from _adapted(child, f"{prefix}{name}.")
