"""Adapters on a model that stays what it was: attached unmerged, switched off, looked into."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer

from layerwise.errors import ModelError, one_line
from layerwise.models.load import LoadedModel
from layerwise.models.sources import has_tokenizer, hashes, resolve
from layerwise.models.weights import check_finite

__all__ = [
    "adapter_notes",
    "attach",
    "base_of",
    "disabled",
    "has_adapters",
    "untrained_modules",
]

_LOG = logging.getLogger(__name__)
# What peft, transformers and safetensors raise on an adapter that is broken or does not fit.
_UNFIT = (
    AttributeError,
    KeyError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)


def attach(loaded: LoadedModel, folder: Path) -> LoadedModel:
    """`loaded` with the adapter in `folder` on it, not merged: `disabled` gives the base back.

    The adapted modules replace those of the model itself, under their names; nothing is copied.
    The tokenizer is the adapter's own where its folder holds one.

    Raises:
        ModelError: The adapter cannot be read, does not fit, or is not one of modules (a soft
            prompt, say).
    """
    source = resolve(str(folder))
    try:
        report = loaded.model.load_adapter(str(source.folder))
    except _UNFIT as error:
        why = one_line(error, limit=160)
        msg = f"adapter that cannot be attached ({type(error).__name__}: {why})"
        expected = f"an adapter of modules, for {loaded.source}"
        raise ModelError(msg, value=source.name, expected=expected) from error
    missing = sorted(getattr(report, "missing_keys", ()))
    if missing or not has_adapters(loaded.model):
        msg = "adapter that does not fit its base model"
        lacking = f"weights for {', '.join(missing[:3])}" if missing else "modules to adapt"
        raise ModelError(msg, value=source.name, expected=lacking)
    loaded.model.eval()
    check_finite(loaded.model, source=source.name)
    tokenizer = loaded.tokenizer
    if has_tokenizer(source):
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
    return replace(
        loaded,
        tokenizer=tokenizer,
        source=source.name,
        base=loaded.source,
        revision=source.revision,
        files={**loaded.files, **hashes(source)},
    )


def base_of(model: nn.Module) -> nn.Module:
    """The Hugging Face model under a `PeftModel`; any other model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _switches(model: nn.Module) -> list[Any]:
    """The modules that an adapter was put into or that stand in for a fully trained module."""
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return [module for module in model.modules() if isinstance(module, kinds)]


def has_adapters(model: nn.Module) -> bool:
    """Whether `model` has adapters that can be switched off."""
    return bool(_switches(model))


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Inside, `model` computes what its base computes; after, all is as before.

    Modules that were trained and saved whole are switched to their originals too. Weights are not
    copied. What was merged into the base stays unmerged after.

    Raises:
        ModelError: The adapter also trained the base's biases, in place: the base is gone.
    """
    _refuse_trained_biases(model)
    switches = [(module, bool(module.disable_adapters)) for module in _switches(model)]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for module, _ in switches:
            module.enable_adapters(enabled=False)
        yield
    finally:
        for module, was_disabled in switches:
            module.enable_adapters(enabled=not was_disabled)
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def _refuse_trained_biases(model: nn.Module) -> None:
    trained = {str(getattr(config, "bias", "none")) for config in _configs(model).values()}
    if trained - {"none"}:
        msg = "adapter that trained its base's biases in place"
        hint = "name the base model and the adapter as two models"
        expected = "an adapter that leaves its base as it was (bias='none')"
        raise ModelError(msg, value="/".join(sorted(trained)), expected=expected, hint=hint)


def _configs(model: nn.Module) -> Mapping[str, Any]:
    found = getattr(model, "peft_config", None)
    return found if isinstance(found, Mapping) else {}


def untrained_modules(model: nn.Module) -> tuple[str, ...]:
    """The base model's names of the modules whose adapter is still what it was at the start.

    For LoRA, those whose B is all zero, an embedding's B included; for AdaLoRA, E; for IA3, scales
    that are all one; for the other kinds, those whose change of the weight is all zero. What
    starts at something else (PiSSA, OLoRA) counts as trained: see `adapter_notes`.
    """
    return tuple(name for name, layer in _layers(model) if _is_untrained(layer) is True)


def adapter_notes(model: nn.Module) -> tuple[str, ...]:
    """Why `untrained_modules` may not tell the whole story of this model's adapters."""
    notes = []
    unsure = sorted({type(layer).__name__ for _, layer in _layers(model) if _unsure(layer)})
    if unsure:
        notes.append(f"whether these adapters ever trained cannot be told: {', '.join(unsure)}")
    starts = (getattr(c, "init_lora_weights", True) for c in _configs(model).values())
    odd = sorted({str(start) for start in starts} - {"True", "gaussian", "eva"})
    if odd:
        notes.append(f"an adapter that starts from {', '.join(odd)} counts as trained")
    return tuple(notes)


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The adapted modules of the base model, by the name that they have there."""
    for name, module in base_of(model).named_modules():
        if isinstance(module, BaseTunerLayer):
            yield name, module


def _unsure(layer: Any) -> bool:
    return _is_untrained(layer) is None


def _is_untrained(layer: Any) -> bool | None:
    """Whether no active adapter of `layer` moved from its start; None where it cannot be told."""
    if isinstance(layer, LoraLayer):
        name = "lora_E" if hasattr(layer, "lora_E") else "lora_B"
        return _all(_held(layer, (name, "lora_embedding_B")), value=0.0)
    if hasattr(layer, "ia3_l"):
        return _all(_held(layer, ("ia3_l",)), value=1.0)
    if not hasattr(layer, "get_delta_weight"):
        return None
    return _all((layer.get_delta_weight(name) for name in layer.active_adapters), value=0.0)


def _held(layer: Any, names: Iterable[str]) -> Iterator[torch.Tensor]:
    """The tensors that the active adapters keep under `names`."""
    for name in names:
        held = getattr(layer, name, {})
        for adapter in layer.active_adapters:
            if adapter in held:
                found = held[adapter]
                yield found.weight if isinstance(found, nn.Module) else found


def _all(tensors: Iterable[torch.Tensor], *, value: float) -> bool:
    return all(bool((tensor.detach() == value).all()) for tensor in tensors)
