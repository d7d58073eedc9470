"""The audit of an adapter whose base is not to be had, from its own files."""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, load_peft_weights, set_peft_model_state_dict
from torch import nn
from transformers import PretrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from layerwise.card.record import ModelInfo, StackInfo
from layerwise.errors import ModelError
from layerwise.models.reading import readable
from layerwise.models.sources import Source, hashes
from layerwise.models.stack import find_stacks
from layerwise.profile.audit import make_audit
from layerwise.profile.audit_record import Audit
from layerwise.provenance import collect
from layerwise.shapes import Tensor
from layerwise.tuning.adapters import adapter_notes, inseparable

_NAME = "default"
# More than any model has; a name in a file could ask for any number of modules.
_MOST_BLOCKS = 10_000
# What in a configuration says where else adapters go; the files' names say where.
_ELSEWHERE = (
    "exclude_modules", "layers_to_transform", "layers_pattern", "layer_replication",
    "modules_to_save", "target_parameters", "trainable_token_indices",
)  # fmt: skip
_A = re.compile(r"base_model\.model\.(.+)\.lora_(embedding_)?A(\.weight)?")
_BLOCK = re.compile(r"(.*?)\.(\d+)\..*")
_OTHER = "its files alone do not tell how it changes the weight"


def audit_files(source: Source, *, why: str) -> Audit:
    """Return what the files of the LoRA adapter in `source` tell without its base.

    PEFT reads them, onto modules without weights of the shapes that the factors have. Unknown stay
    how large updates are beside weights, what they do to outputs, and how many blocks there are.

    Args:
        source: Where they lie.
        why: Why there is no base.

    Raises:
        ModelError: They cannot be read, or tell nothing: the adapter is no LoRA, say.
        StackError: None of its modules is in a list of blocks.
        NonFiniteError: A factor has a value that is NaN or infinite.
    """
    with readable(source):
        config = PeftConfig.from_pretrained(str(source.folder))
        weights = load_peft_weights(str(source.folder), device="cpu")
        reason = inseparable(config)
    factors = dict(_factors(weights))
    if not isinstance(config, LoraConfig) or not factors or reason:
        msg = f"adapter of which nothing can be told without its base ({why})"
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        raise ModelError(
            msg, value=reason or kind, expected="LoRA on a base that it left as it was"
        )
    with readable(source), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT misses what a base has, and says so.
        model, unread = _hollow(config, factors, weights)
    audit = make_audit(model, {})
    stacks = tuple(
        StackInfo(stack.name, len(stack.blocks), "unknown class", "sequential")
        for stack in find_stacks(model.get_base_model())
    )
    blocks = ", ".join(f"{stack.name} has {stack.blocks} blocks or more" for stack in stacks)
    untold = "how large it is beside the weights and what it does to outputs is not known"
    note = f"read from the adapter's files alone ({why}): {untold}; {blocks}"
    return replace(
        audit,
        unread={**audit.unread, **dict.fromkeys(unread, _OTHER)},
        saved_modules=tuple(config.modules_to_save or ()),
        notes=(note, *audit.notes, *adapter_notes(model)),
        model=ModelInfo(
            source=source.name,
            architecture="unknown",
            parameters=sum(tensor.numel() for tensor in weights.values()),
            stacks=stacks,
            revision=source.revision,
            files=hashes(source),
            base=str(config.base_model_name_or_path or "") or None,
        ),
        provenance=collect(device="cpu"),
    )


def _factors(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Yield the factors A and B of each module, by its name in the base."""
    for key, down in weights.items():
        match = _A.fullmatch(key)
        up = weights.get(re.sub(r"A(\.weight)?$", r"B\1", key)) if match else None
        if match and up is not None:
            yield match[1], (down, up)


def _hollow(
    config: LoraConfig, factors: Mapping[str, tuple[Tensor, Tensor]], weights: dict[str, Tensor]
) -> tuple[PeftModel, list[str]]:
    """Return the adapter on modules without weights, and those whose factors are of another rank.

    Such are those of many experts side by side.
    """
    blocks = [match for name in factors if (match := _BLOCK.fullmatch(name))]
    depths: dict[str, int] = {}
    for match in blocks:
        depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    root: Any = nn.Module()
    root.config = PretrainedConfig(num_hidden_layers=max(depths.values(), default=0))
    if root.config.num_hidden_layers > _MOST_BLOCKS:
        msg = "adapter of a block with an unlikely number"
        raise ModelError(msg, value=max(depths.values()) - 1, expected=f"below {_MOST_BLOCKS}")
    embeddings = {m[1] for key in weights if (m := _A.fullmatch(key)) and m[2]}
    for path, depth in depths.items():
        _put(root, path, nn.ModuleList(GradientCheckpointingLayer() for _ in range(depth)))
    for name, (down, up) in factors.items():
        _put(root, name, _without_weight(down, up, is_embedding=name in embeddings))
    plain = dict.fromkeys(_ELSEWHERE) | {"target_modules": list(factors), "init_lora_weights": True}
    model = PeftModel(root, replace(config, **plain), _NAME, low_cpu_mem_usage=True)
    model.peft_config[_NAME].init_lora_weights = config.init_lora_weights
    odd = []
    for name, (down, up) in factors.items():
        layer: Any = root.get_submodule(name)
        layer.get_base_layer().weight = None  # Else PEFT would move the factors to where it is.
        if not (layer.r[_NAME] == down.shape[0] == up.shape[1]):
            odd.append(name)
            parent, _, own = name.rpartition(".")
            setattr(root.get_submodule(parent), own, layer.get_base_layer())
    known = tuple(f"base_model.model.{name}.lora_" for name in factors if name not in odd)
    kept = {key: tensor for key, tensor in weights.items() if key.startswith(known)}
    set_peft_model_state_dict(model, kept, _NAME, low_cpu_mem_usage=True)
    return model, odd


def _without_weight(down: Tensor, up: Tensor, *, is_embedding: bool) -> nn.Module:
    """Return a module without its weight, of the shape that the factors are for."""
    (_, columns, *kernel), rows = down.shape, up.shape[0]
    convolutions: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    with torch.device("meta"):
        if is_embedding:
            return nn.Embedding(columns, rows)
        if kernel:
            made: nn.Module = convolutions[len(kernel) - 1](columns, rows, kernel)
            return made
        return nn.Linear(columns, rows, bias=False)


def _put(root: nn.Module, path: str, module: nn.Module) -> None:
    """Set the module at `path`, with plain modules on the way to it where there are none."""
    *way, own = path.split(".")
    for part in way:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(own, module)
