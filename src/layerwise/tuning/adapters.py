"""Adapters on a model that stays what it was: attached unmerged, switched off, looked into."""

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.lycoris_utils import LycorisLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer

from layerwise.errors import ModelError, is_bug, one_line
from layerwise.models.load import LoadedModel, adapted
from layerwise.models.reading import REMOTE
from layerwise.models.sources import Source, has_tokenizer, refuse_without_weights
from layerwise.models.weights import check_finite, refuse_unfit
from layerwise.objectives.forward import without_adapter

# What peft, transformers and safetensors raise on an adapter that is broken or does not fit.
_UNFIT = (AttributeError, KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError)

# How LoRA may start without changing the base's weights, and of these the ways that start at B = 0.
_BESIDE = {"True", "False", "gaussian", "eva", "orthogonal"}
_ZERO = {"True", "gaussian", "eva"}
_NAME = "default"
# What an adapted module may hold, the first that it has telling, and its value at the start.
_STARTS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("lora_E",), 0.0),
    (("lora_B", "lora_embedding_A"), 0.0),
    (("ia3_l",), 1.0),
    (("oft_R",), 0.0),
    (("boft_R",), 0.0),
    (("vera_lambda_b",), 0.0),
)


def attach(loaded: LoadedModel, source: Source) -> LoadedModel:
    """Give `loaded` with the adapter in `source` on it, not merged: `disabled` gives the base back.

    The adapted modules replace those of the model itself, under their names; nothing is copied.
    The tokenizer is the adapter's own where its folder holds one.

    Raises:
        ModelError: The adapter cannot be read, does not fit, cannot be switched off, or is not one
            of modules (a soft prompt, say).
    """
    refuse_without_weights(source)
    _refuse_inseparable(inseparable(source.folder), source.name)
    with _fitting(source.name, loaded.source):
        config = PeftConfig.from_pretrained(str(source.folder))
        config.inference_mode = True
        # It puts the adapter's modules into the very model that it is given.
        report = PeftModel(loaded.model, config, _NAME).load_adapter(str(source.folder), _NAME)
    lacking = "" if has_adapters(loaded.model) else "modules to adapt"
    refuse_unfit(report, source=source.name, lacking=lacking)
    loaded.model.eval()
    check_finite(loaded.model, source=source.name)
    tokenizer = loaded.tokenizer
    if has_tokenizer(source):
        tokenizer = AutoTokenizer.from_pretrained(source.folder, **{REMOTE: False})
    return adapted(loaded, source, tokenizer)


@contextmanager
def _fitting(adapter: str, base: str) -> Iterator[None]:
    """Whatever PEFT raises on an adapter that does not fit, as one `ModelError` that names it."""
    try:
        with warnings.catch_warnings():
            # It sets the flag for transposed weights (GPT-2) by itself, and says so.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            # It reads an attribute that transformers is renaming.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            yield
    except _UNFIT as error:
        if is_bug(error):
            raise
        why = f"{type(error).__name__}: {one_line(error, limit=160)}"
        expected = f"an adapter of modules, for {base}"
        message = f"adapter that cannot be attached ({why})"
        raise ModelError(message, value=adapter, expected=expected) from error


def inseparable(folder: Path) -> str:
    """Get why the adapter in `folder` cannot be switched off to get its base back; empty if it can.

    Raises:
        ModelError: Its configuration cannot be read.
    """
    with _fitting(str(folder), "a model"):
        return _why_inseparable(PeftConfig.from_pretrained(str(folder)))


def _why_inseparable(config: Any) -> str:
    if str(getattr(config, "bias", "none")) != "none":
        return "it trained its base's biases in place"
    start = str(getattr(config, "init_lora_weights", True))
    return "" if start in _BESIDE else f"its start ({start}) changed its base's weights"


def _refuse_inseparable(why: str, adapter: str) -> None:
    if why:
        hint = "name the base model and the adapter as two models"
        expected = "an adapter that leaves its base as it was"
        message = f"adapter that cannot be switched off: {why}"
        raise ModelError(message, value=adapter, expected=expected, hint=hint)


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
    for name, config in _configs(model).items():
        _refuse_inseparable(_why_inseparable(config), name)
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


def merged(model: PeftModel) -> nn.Module:
    """Return the base of `model` with its adapters folded in; `model` stays as it is.

    Weights without an adapter are shared, not copied.
    """
    adapted = {id(p) for module in _switches(model) for p in module.parameters()}
    shared = {id(p): p for p in model.parameters() if id(p) not in adapted}
    alone: nn.Module = copy.deepcopy(model, shared).merge_and_unload(safe_merge=True)
    return alone


def _configs(model: nn.Module) -> Mapping[str, Any]:
    found = getattr(model, "peft_config", None)
    return found if isinstance(found, Mapping) else {}


def base_parameters(model: nn.Module) -> int:
    """Count the numbers of `model` without adapters and the modules that they trained whole."""
    held = (
        getattr(module, name, None)
        for module in _switches(model)
        for name in module.adapter_layer_names
    )
    added = {id(p) for part in held if isinstance(part, nn.Module) for p in part.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in added)


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
    """Return why `untrained_modules` may not tell the whole story of this model's adapters."""
    notes = []
    layers = [layer for _, layer in _layers(model)]
    unsure = sorted({type(layer).__name__ for layer in layers if _is_untrained(layer) is None})
    if unsure:
        notes.append(f"whether these adapters ever trained cannot be told: {', '.join(unsure)}")
    starts = (getattr(c, "init_lora_weights", True) for c in _configs(model).values())
    odd = sorted({str(start) for start in starts} - _ZERO)
    if odd:
        notes.append(
            f"adapters that start otherwise than at zero ({', '.join(odd)}) count as trained"
        )
    return tuple(notes)


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the adapted modules of the base model, by the name that they have there."""
    for name, module in without_adapter(model).named_modules():
        if isinstance(module, BaseTunerLayer):
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
