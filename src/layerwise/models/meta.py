"""The structure of a model without its weights: a copy on the meta device."""

import copy
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.distributed.tensor import DTensor

Module = TypeVar("Module", bound=nn.Module)

# What a module keeps its parts in; the copy has containers of its own.
_CONTAINERS = (dict, list, set)


def meta_copy(model: Module) -> Module:
    """Return a copy of `model` without weights, on the meta device; the original is not touched.

    Modules, parameters and buffers are new, of the same classes. What else a module or parameter
    holds (how codes are read, say) is shared: nothing of it is copied, however large.
    """
    copies: dict[int, Any] = {}

    def copied(held: Any) -> Any:
        if isinstance(held, nn.Module) and id(held) not in copies:
            made = copies[id(held)] = type(held).__new__(type(held))
            own: dict[str, Any] = {}
            for key, value in vars(held).items():
                own[key] = copy.copy(value) if isinstance(value, _CONTAINERS) else value
            if "config" in own:  # Shared by a model and its parts; PEFT may write to it.
                shared = id(own["config"])
                own["config"] = copies.get(shared) or copy.deepcopy(own["config"])
                copies[shared] = own["config"]
            for kind in ("_parameters", "_buffers", "_modules"):
                own[kind] = {name: copied(part) for name, part in own[kind].items()}
            vars(made).update(own)
        elif isinstance(held, torch.Tensor) and id(held) not in copies:
            copies[id(held)] = _without_values(held)
        return None if held is None else copies[id(held)]

    whole: Module = copied(model)
    return whole


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` on the meta device, of its class and with its attributes."""
    kind: Any = type(tensor)
    if isinstance(tensor, DTensor):
        made = torch.empty_like(tensor, device="meta")
    elif hasattr(kind, "__tensor_unflatten__"):  # A tensor made of others, such as torchao's.
        names, context = cast("Any", tensor).__tensor_flatten__()
        parts = {name: _without_values(getattr(tensor, name)) for name in names}
        made = kind.__tensor_unflatten__(parts, context, tensor.size(), tensor.stride())
    else:
        empty = torch.empty_like(tensor.data, device="meta")
        made = torch.Tensor._make_subclass(kind, empty, tensor.requires_grad)
        vars(made).update(vars(tensor))
        return made
    is_parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(made, requires_grad=tensor.requires_grad) if is_parameter else made
