"""Adapters on a model that stays what it was: switched off, looked into."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lycoris_utils import LycorisLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from layerwise.capture.restore import requires_grad_kept
from layerwise.compat.peft import added_modules
from layerwise.errors import ModelError
from layerwise.models.adapter_starts import BESIDE
from layerwise.models.linear import parameter_count
from layerwise.objectives.forward import without_adapter

# How LoRA may start with B at zero.
_ZERO = {"True", "gaussian", "eva"}
# What an adapted module may hold, the first that it has telling, and its value at the start.
_STARTS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("lora_E",), 0.0),
    (("lora_B", "lora_embedding_A"), 0.0),
    (("ia3_l",), 1.0),
    (("oft_R",), 0.0),
    (("boft_R",), 0.0),
    (("vera_lambda_b",), 0.0),
)


def inseparable(config: Any) -> str:
    """Return why an adapter of `config` cannot be switched off for its base; empty if it can."""
    if str(getattr(config, "bias", "none")) != "none":
        return "it trained its base's biases in place"
    start = str(getattr(config, "init_lora_weights", True))
    return "" if start.lower() in BESIDE else f"its start ({start}) changed its base's weights"


def _switches(model: nn.Module) -> list[Any]:
    """Give the modules that an adapter was put into or that stand in for a fully trained module."""
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return [module for module in model.modules() if isinstance(module, kinds)]


def has_adapters(model: nn.Module) -> bool:
    """Return whether `model` has adapters that can be switched off."""
    return bool(_switches(model))


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Let `model` compute what its base computes inside; after, all is as before.

    Modules that were trained and saved whole are switched to their originals too. Weights are not
    copied. What was merged into the base stays unmerged after.

    Raises:
        ModelError: The adapter changed the base itself (its biases, say): the base is gone.
    """
    for name, config in adapter_configs(model).items():
        if why := inseparable(config):
            hint = "name the base model and the adapter as two models"
            expected = "an adapter that leaves its base as it was"
            message = f"adapter that cannot be switched off: {why}"
            raise ModelError(message, value=name, expected=expected, hint=hint)
    switches = [(module, bool(module.disable_adapters)) for module in _switches(model)]
    with requires_grad_kept(model):
        try:
            for module, _ in switches:
                module.enable_adapters(enabled=False)
            yield
        finally:
            for module, was_disabled in switches:
                module.enable_adapters(enabled=not was_disabled)


def merged(model: PeftModel) -> nn.Module:
    """Return the base of `model` with its adapters folded in; `model` stays as it is.

    Weights without an adapter are shared, not copied.
    """
    adapted = {id(p) for module in _switches(model) for p in module.parameters()}
    shared = {id(p): p for p in model.parameters() if id(p) not in adapted}
    alone: nn.Module = copy.deepcopy(model, shared).merge_and_unload(safe_merge=True)
    return alone


def adapter_configs(model: nn.Module) -> Mapping[str, Any]:
    """Return PEFT's settings of each adapter on `model`, by its name."""
    found = getattr(model, "peft_config", None)
    return found if isinstance(found, Mapping) else {}


def base_parameters(model: nn.Module) -> int:
    """Count the numbers of `model` without adapters and the modules that they trained whole."""
    held = (
        getattr(module, name, None) for module in _switches(model) for name in added_modules(module)
    )
    added = {id(p) for part in held if isinstance(part, nn.Module) for p in part.parameters()}
    return parameter_count(model, without=added)


def untrained_modules(model: nn.Module) -> tuple[str, ...]:
    """Return the base model's names of the modules whose adapter is still what it was at the start.

    For LoRA, those whose B is all zero (PEFT lets an embedding's A start at zero instead); for
    AdaLoRA E, for OFT and BOFT R, for VeRA b; for IA3, scales that are all one; for LoHa and LoKr,
    those whose change of the weight is all zero. What `adapter_notes` names counts as trained.
    """
    return tuple(name for name, layer in _layers(model) if _is_untrained(layer) is True)


def still_notes(model: nn.Module) -> tuple[str, ...]:
    """Say how many adapters of a trained `model` no loss depended on; empty where none is so."""
    names = untrained_modules(model)
    if not names:
        return ()
    return (f"{len(names)} adapters did not train: no loss depended on them, first {names[0]}",)


def adapter_notes(model: nn.Module) -> tuple[str, ...]:
    """Return what else there is to know of this model's adapters than `untrained_modules`."""
    notes = []
    layers = [layer for _, layer in _layers(model)]
    unsure = sorted({type(layer).__name__ for layer in layers if _is_untrained(layer) is None})
    if unsure:
        notes.append(f"whether these adapters ever trained cannot be told: {', '.join(unsure)}")
    if all(module.disable_adapters for module in _switches(model)):
        notes.append("the adapters are switched off: what the model computes is its base's")
    return (*notes, *start_notes(adapter_configs(model).values()))


def start_notes(configs: Iterable[Any]) -> tuple[str, ...]:
    """Return a note of the starts in PEFT's `configs` by which adapters count as trained."""
    odd = sorted({str(getattr(c, "init_lora_weights", True)) for c in configs} - _ZERO)
    said = f"adapters that start otherwise than at zero ({', '.join(odd)}) count as trained"
    return (said,) if odd else ()


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the modules of the base model with an active adapter, by the name they have there."""
    for name, module in without_adapter(model).named_modules():
        if isinstance(module, BaseTunerLayer):
            stores = [getattr(module, store, {}) for store in module.adapter_layer_names]
            if any(adapter in store for store in stores for adapter in module.active_adapters):
                yield name, module


def _is_untrained(layer: Any) -> bool | None:
    """Tell if no active adapter of `layer` moved from its start; None where it cannot be told."""
    active = layer.active_adapters
    if isinstance(layer, LycorisLayer):
        return all(bool((layer.get_delta_weight(name).detach() == 0).all()) for name in active)
    for names, value in _STARTS:
        stores = [getattr(layer, name, {}) for name in names]
        held = [store[adapter] for store in stores for adapter in active if adapter in store]
        if held:
            tensors = [x if isinstance(x, torch.Tensor) else x.weight for x in held]
            return all(bool((tensor.detach() == value).all()) for tensor in tensors)
    return None
