"""The parts of a model that measuring it needs: embeddings, final norms, positions."""

import re

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from transformers import PreTrainedModel

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
        held = owner(model, stack.name)
        try:
            module = held[1].get_input_embeddings() if held else None
        except NotImplementedError:  # A tower that embeds something other than tokens.
            continue
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


def reads_text(model: nn.Module, name: str) -> bool:
    """Return whether the module called `name` is of a part of `model` whose input is tokens."""
    held = owner(model, name)
    try:
        return held is not None and isinstance(held[1].get_input_embeddings(), nn.Embedding)
    except NotImplementedError:  # A tower that embeds something other than tokens.
        return False


def position_limit(model: nn.Module) -> int | None:
    """Return how many tokens `model`'s learned positions reach; None where they are computed.

    RoBERTa's positions start after its padding index, OPT's and BART's after an offset. Those of a
    tower that reads images or sound do not count.
    """
    limits = [
        module.num_embeddings
        - (0 if module.padding_idx is None else module.padding_idx + 1)
        - int(getattr(module, "offset", 0))
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and _POSITIONS.search(name.rpartition(".")[2])
        and reads_text(model, name)
    ]
    return min(limits, default=None)
