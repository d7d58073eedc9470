"""The parts of a model that measuring it needs: embeddings, final norms, positions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DataParallel, DistributedDataParallel
from transformers import PreTrainedModel

from layerwise.compat.torch import FSDPModule
from layerwise.compat.transformers import input_embedding
from layerwise.errors import BadInputError, ModelError
from layerwise.models.stack import Stack, find_stacks, is_norm

# Norms beside a stack that are not applied to its output.
_NOT_FINAL = re.compile(
    r"emb|proj|rel_|per_layer|token|patch|pre_?(layer)?norm|conv", re.IGNORECASE
)
# Those that are, whatever their name says, by model type.
_FINAL = {
    "bigbird_pegasus": "layernorm_embedding",
    "esm": "emb_layer_norm_after",
    "lfm2": "embedding_norm",
    "lfm2_moe": "embedding_norm",
    "lfm3": "embedding_norm",
}
_POSITIONS = re.compile(r"^wpe$|^(embed_)?positions?(_emb\w*)?$")
# What leads from pictures or sound to the text, where it stands inside their tower.
_ALIGNER = re.compile(r"merger|aligner|projector|^proj\d?$")
# The norm beside these models' stack is applied to their relative positions.
_NORM_OF_POSITIONS = frozenset({"deberta-v2"})


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module that `torch.compile` or a replica of data-parallel training stands around.

    `model` itself where it is neither.
    """
    is_replica = isinstance(model, DataParallel | DistributedDataParallel)
    # Looked up where it would be: a PEFT model hands the attributes of what it holds on.
    inner = model._modules.get("module" if is_replica else "_orig_mod")
    return model if inner is None else unwrapped(inner)


def is_compiled(model: nn.Module) -> bool:
    """Return whether `torch.compile` stands around `model` or a part of it, or was put into one."""
    return any(
        "_orig_mod" in module._modules or vars(module).get("_compiled_call_impl") is not None
        for module in model.modules()
    )


def refuse_compiled_parts(model: nn.Module, *, then: str) -> None:
    """Refuse a model of which `torch.compile` stands around parts: it gives them other names.

    Raises:
        BadInputError: There are such parts.
    """
    parts = [name for name, module in model.named_modules() if "_orig_mod" in module._modules]
    if parts:
        msg, hint = "model of which parts were compiled", f"{then}, then compile"
        raise BadInputError(msg, value=parts[0], expected="plain blocks", hint=hint)


def refuse_sharded(model: nn.Module) -> None:
    """Refuse a model of whose weights a process holds a part, unless its own forward gathers them.

    Raises:
        ModelError: It is one under FSDP1, tensor parallelism or DeepSpeed's ZeRO stage 3.
    """
    parameters = tuple(model.parameters())
    whole = isinstance(unwrapped(model), FSDPModule)  # Its forward gathers the weights.
    kinds = {
        "FSDP1": any(isinstance(module, FullyShardedDataParallel) for module in model.modules()),
        "tensor parallel": not whole and any(isinstance(p, DTensor) for p in parameters),
        "DeepSpeed ZeRO stage 3": any(hasattr(p, "ds_id") for p in parameters),
    }
    for kind, is_sharded in kinds.items():
        if is_sharded:
            msg = "model whose weights are sharded over processes"
            hint = "FSDP2, or profile the checkpoints: layerwise profile BEFORE AFTER"
            raise ModelError(msg, value=kind, expected="the whole model in each", hint=hint)


def owner(model: nn.Module, name: str) -> tuple[str, PreTrainedModel] | None:
    """Get the innermost `PreTrainedModel` that holds the module called `name`, and its own name."""
    parts = name.split(".")
    for end in range(len(parts) - 1, -1, -1):
        path = ".".join(parts[:end])
        module = model.get_submodule(path)
        if isinstance(module, PreTrainedModel):
            return path, module
    return None


def embeddings(model: nn.Module) -> tuple[nn.Module, ...]:
    """Return the modules that embed the input of each stack of `model`, each once.

    With all weights frozen, their output must require a gradient for one to reach every block.

    Raises:
        StackError: No stack of blocks was found.
    """
    found: dict[int, nn.Module] = {}
    for stack in find_stacks(model):
        module = _embedding(model, stack.name)
        if isinstance(module, nn.Module):
            found.setdefault(id(module), module)
    return tuple(found.values())


def final_norm(model: nn.Module, stack: Stack) -> nn.Module | None:
    """Return the norm that `model` applies to the output of `stack`'s last block; None without one.

    Looked for beside the module list, then beside each module around it, up to the innermost
    `PreTrainedModel`: the last norm there that is not one of embeddings.
    """
    held = owner(model, stack.name)
    stop, kind = (held[0], held[1].config.model_type) if held else ("", "")
    if kind in _NORM_OF_POSITIONS:
        return None
    path = stack.name
    while path != stop and path:
        path = path.rpartition(".")[0]
        norms = [
            child
            for name, child in model.get_submodule(path).named_children()
            if is_norm(child) and (name == _FINAL.get(kind) or not _NOT_FINAL.search(name))
        ]
        if norms:
            return norms[-1]
    return None


def position_limit(model: nn.Module) -> int | None:
    """Return how many tokens `model`'s learned positions reach; None where they are computed.

    Those of a tower that reads something other than tokens do not count. RoBERTa's positions start
    after its padding index, OPT's and BART's after an offset.
    """
    limits = [
        module.num_embeddings
        - (0 if module.padding_idx is None else module.padding_idx + 1)
        - int(getattr(module, "offset", 0))
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and _POSITIONS.search(name.rpartition(".")[2])
        and reads_tokens(model, name)
    ]
    return min(limits, default=None)


def reads_tokens(model: nn.Module, name: str) -> bool:
    """Return whether the innermost model around the module called `name` embeds tokens."""
    return isinstance(_embedding(model, name), nn.Embedding)


def _embedding(model: nn.Module, name: str) -> Any:
    """Return what the innermost model around the module called `name` embeds its input by."""
    held = owner(model, name)
    return held and input_embedding(held[1], name.removeprefix(held[0]).lstrip("."))


@dataclass(frozen=True)
class Halves:
    """The parts of a model that reads text beside pictures or sound, by the names of their modules.

    Attributes:
        text: What reads the text.
        towers: What reads the other.
        aligners: What leads from a tower to the text, beside or inside the towers.
    """

    text: str
    towers: tuple[str, ...]
    aligners: tuple[str, ...]


def halves(model: Any, stacks: Sequence[Stack]) -> Halves | None:
    """Return the parts of `model`; None where all that it reads is text."""
    held = [owner(model, stack.name) for stack in stacks]
    read = model.config.get_text_config() if len(stacks) > 1 else None
    texts = [s.name for s, h in zip(stacks, held, strict=True) if h and h[1].config is read]
    others = [stack.name for stack in stacks if stack.name not in texts]
    if not texts or not others or read is model.config:
        return None
    text = _outermost(texts[0], apart=others)
    towers = tuple(dict.fromkeys(_outermost(name, apart=texts) for name in others))
    around = text.rpartition(".")[0]
    beside = [f"{around}.{n}" for n, m in model.get_submodule(around).named_children()
              if any(True for _ in m.parameters())]  # fmt: skip
    inside = [
        f"{tower}.{name}"
        for tower in towers
        for name, _ in model.get_submodule(tower).named_children()
        if _ALIGNER.search(name)
    ]
    aligners = [n for n in beside if not f"{text}.".startswith(f"{n}.") and n not in towers]
    return Halves(text, towers, (*aligners, *inside))


def _outermost(name: str, *, apart: Sequence[str]) -> str:
    """Return the outermost module around `name` that holds none of `apart`."""
    around = name.rpartition(".")[0]
    while around and not any(f"{other}.".startswith(f"{around}.") for other in apart):
        name, around = around, around.rpartition(".")[0]
    return name
