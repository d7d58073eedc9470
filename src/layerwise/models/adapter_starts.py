"""Starts of LoRA that took something out of the base's weights: put back, so that the base stays.

Such an adapter, saved as it is, means the base without what it started from. It is read as the
plain LoRA that PEFT's own conversion makes of it: of twice the rank, what it started from taken
off again.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layerwise.errors import ModelError
from layerwise.models.adapter_files import read_weights
from layerwise.models.adapter_proof import call, random_inputs, refuse_unlike
from layerwise.models.sources import Source
from layerwise.shapes import Tensor

#: Starts that leave the base as it is.
BESIDE = frozenset({"true", "false", "gaussian", "eva", "orthogonal", "mica"})
#: Those that the base's weights alone tell, and those that were drawn or measured.
_TOLD, _DRAWN = ("pissa", "olora"), ("pissa_niter_", "corda", "lora_ga")


def refuse_unknown_start(
    settings: Mapping[str, Any], source: Source, *, rounded: bool
) -> str | None:
    """Return the start that has to be put back; None where the base stayed as it is.

    What is left of a base of codes was `rounded` once more.

    Raises:
        ModelError: It cannot be known what it took from the base.
    """
    given = settings.get("init_lora_weights", True) if settings.get("peft_type") == "LORA" else True
    start = str(given).lower()
    if start in BESIDE or given is None:
        return None
    if start not in _TOLD and not (start.startswith(_DRAWN) and _beside(start, source)):
        why = "rounded its base's weights" if start == "loftq" else "is not known here"
        why = "was drawn or measured when it began" if start.startswith(_DRAWN) else why
        message = f"adapter whose start ({start}) {why}: what it took from its base cannot be told"
        hint = "save_pretrained(..., path_initial_model_for_weight_conversion=...) where it trained"
        expected = f"plain LoRA, or its first weights in {_folder(start)}"
        raise ModelError(message, value=source.name, expected=expected, hint=hint)
    odd = "of DoRA" if settings.get("use_dora") else "on quantised weights" if rounded else ""
    if odd:
        message = f"adapter {odd} whose start ({start}) changed its base"
        raise ModelError(message, value=source.name, expected="one on the base as it was")
    return start


def _folder(start: str) -> str:
    return f"{start.partition('_niter')[0]}_init"


def _beside(start: str, source: Source) -> Path | None:
    """Return where trainers keep what such an adapter started from; None where that is not."""
    folder = source.folder / _folder(start)
    return folder if any(folder.glob("adapter_model*")) else None


def put_back(
    wrapper: Any, start: str, source: Source, *, adapter: str, brought: Iterable[str]
) -> str:
    """Make the adapter on the model in `wrapper` one that goes onto the base as it was; say so.

    Weights of the base that the adapter's file `brought`, by name, lack what it started from
    already: nothing is taken off those.

    Raises:
        ModelError: What it computes then is not what PEFT makes of it.
    """
    config, root = wrapper.peft_config[adapter], wrapper.get_base_model()
    folder = _beside(start, source)
    first = None if folder is None else read_weights(replace(source, folder=folder))
    whole = list[str]()
    held = dict(wrapper.named_parameters(remove_duplicate=False))
    own = {id(held[name]) for name in brought if name in held}  # Of tied weights, one is there.
    for name, layer in list(root.named_modules()):
        if adapter not in getattr(layer, "lora_A", ()):
            continue
        if id(layer.get_base_layer().weight) in own:
            down, up = (part[adapter].weight.data for part in (layer.lora_A, layer.lora_B))
            _append(layer, torch.zeros_like(down), torch.zeros_like(up), adapter)
            whole.append(name)
        elif first is not None:
            key = f"base_model.model.{name}.lora"
            _append(layer, first[f"{key}_A.weight"], first[f"{key}_B.weight"], adapter)
        else:
            _put_back(layer, start, adapter, name=name, source=source.name)
    factor = sqrt(2.0) if config.use_rslora else 2
    config.r, config.lora_alpha = 2 * config.r, factor * config.lora_alpha
    config.rank_pattern = {key: 2 * rank for key, rank in (config.rank_pattern or {}).items()}
    config.alpha_pattern = {
        key: factor * alpha for key, alpha in (config.alpha_pattern or {}).items()
    }
    told = f"the adapter's start ({start}) was put back: it is plain LoRA of twice its rank"
    return told + (f"; its files bring {', '.join(whole)} without it" if whole else "")


def _put_back(layer: Any, start: str, adapter: str, *, name: str, source: str) -> None:
    """Find what PEFT took from the base by having it start anew, on a copy of this one module."""
    twin = copy.deepcopy(layer).float()
    held = [part[adapter].weight.data.clone() for part in (twin.lora_A, twin.lora_B)]
    with torch.no_grad():
        twin.pissa_init(adapter, start) if start == "pissa" else twin.olora_init(adapter)
    down, up = (part[adapter].weight.data for part in (twin.lora_A, twin.lora_B))
    for part, data in zip((twin.lora_A, twin.lora_B), held, strict=True):
        part[adapter].weight.data = data
    _append(layer, down, up, adapter)
    inputs = random_inputs(layer, name=name, source=source)
    alike = copy.deepcopy(layer).float()
    found, wanted = call(alike, inputs), call(twin, inputs)
    before = call(alike.get_base_layer(), inputs)
    refuse_unlike(found, wanted, before, name=name, source=source)


def _append(layer: Any, down: Tensor, up: Tensor, adapter: str) -> None:
    """Take what `down` and `up` add off again: as further directions of the layer's own."""
    old_down, old_up = layer.lora_A[adapter], layer.lora_B[adapter]
    both = (
        torch.cat([old_down.weight.data, down.to(old_down.weight)]),
        torch.cat([old_up.weight.data, -up.to(old_up.weight)], 1),
    )
    for part, weight in zip((old_down, old_up), both, strict=True):
        part.weight = nn.Parameter(weight, requires_grad=part.weight.requires_grad)
        part.out_features, part.in_features = weight.shape
    layer.r[adapter] = len(both[0])
