"""What a linear module is, and the weight that it multiplies with, however that is stored.

A quantised module keeps codes in place of numbers. It is known by what it is: the widths of its
input and output, and that what it holds are not plain floating-point weights. Its class is its
library's own affair.
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from layerwise.errors import ModelError
from layerwise.shapes import Tensor

#: Rows of a weight that are read at a time where only running the module shows them.
_ROWS = 1024
_WIDTHS = (("in_features", "out_features"), ("infeatures", "outfeatures"))


class Widths(NamedTuple):
    """Widths of a linear module's input and output; whether its weight is stored as (in, out)."""

    in_features: int
    out_features: int
    transposed: bool = False


def widths(module: nn.Module) -> Widths | None:
    """Return the widths of a linear module, also under a PEFT layer; None for any other."""
    inner: Any = getattr(module, "base_layer", module)
    if isinstance(inner, Conv1D):
        return Widths(int(inner.weight.shape[0]), int(inner.weight.shape[1]), transposed=True)
    if not isinstance(inner, nn.Linear) and any(True for _ in inner.children()):
        return None
    if not (isinstance(inner, nn.Linear) or any(map(is_coded, _own(inner)))):
        return None
    for names in _WIDTHS:
        given, made = (getattr(inner, name, None) for name in names)
        if isinstance(given, int) and isinstance(made, int):
            return Widths(given, made)
    return None


def is_packed(module: nn.Module) -> bool:
    """Return whether `module` is linear and keeps codes in place of its weight."""
    if any(True for _ in module.children()) or widths(module) is None:
        return False
    weight = getattr(module, "weight", None)
    return not isinstance(weight, torch.Tensor) or is_coded(weight)


def packed_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of `model` that keep codes in place of a weight, by name."""
    return {name: module for name, module in model.named_modules() if is_packed(module)}


def _own(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def is_coded(tensor: Tensor) -> bool:
    """Return whether the entries of `tensor`, as torch shows them, are no weights to compute with.

    Codes are whole numbers or single bytes, or hidden in a tensor of a class of another library.
    """
    is_foreign = not type(tensor).__module__.startswith("torch.")
    hides = is_foreign and hasattr(tensor, "__tensor_flatten__")
    has_codes = getattr(tensor, "quant_state", None) is not None  # Whatever type they pose as.
    return hides or has_codes or not tensor.is_floating_point() or tensor.dtype.itemsize < 2


def plain_parts(tensor: Any) -> Iterator[Tensor]:
    """Yield the tensors with memory of their own that `tensor` is made of; mostly itself."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from plain_parts(getattr(tensor, name))
    else:
        yield tensor


def scales_of(module: Any) -> Tensor | None:
    """Return the scales of a module of bitsandbytes' 8 bits; None for any other.

    They lie with the weight, and after the first forward in the module's state.
    """
    scales: Tensor | None = getattr(getattr(module, "weight", None), "SCB", None)
    return getattr(getattr(module, "state", None), "SCB", None) if scales is None else scales


def weight_of(module: Any) -> Tensor:
    """Return the weight of `module`, detached; of a linear module that keeps codes, dequantised.

    The latter is (out, in) and made anew. Where its library has no word for that, it is what the
    module makes of the unit vectors.

    Raises:
        ModelError: Its codes have lost their scales.
    """
    weight: Any = getattr(module, "weight", None)
    plain: Tensor
    if not is_packed(module):
        plain = weight
        return plain.detach()
    with torch.no_grad():
        if hasattr(weight, "quant_state"):  # bitsandbytes, 4 bits; not packed yet without a state
            from bitsandbytes.functional import dequantize_4bit

            plain = dequantize_4bit(weight.data, weight.quant_state)
            return plain.detach()
        if (scales := scales_of(module)) is not None:
            plain = weight.data.float() * (scales.float() / 127.0)[:, None]
            return plain
        if hasattr(weight, "SCB"):
            message = "8-bit weights whose scales are gone"
            raise ModelError(message, value=type(module).__name__, expected="a model loaded anew")
        # Every tensor has that word; what torch itself understands by it is another thing.
        own = [module, *([weight] if hasattr(weight, "__tensor_flatten__") else [])]
        holder = next((held for held in own if hasattr(held, "dequantize")), None)
        if holder is not None:
            plain = holder.dequantize()
            return plain.detach()
        return _by_running(module)


def _by_running(module: Any) -> Tensor:
    shape = widths(module)
    assert shape is not None, "only a linear module keeps codes"  # noqa: S101
    held = [t for t in _own(module) if t.is_floating_point() and t.dtype.itemsize > 1]
    kind = held[0].dtype if held else torch.float32
    device = next(_own(module)).device
    none = module.forward(torch.zeros((1, shape.in_features), dtype=kind, device=device))
    parts = []
    for start in range(0, shape.in_features, _ROWS):
        rows = range(start, min(start + _ROWS, shape.in_features))
        unit = torch.zeros((len(rows), shape.in_features), dtype=kind, device=device)
        unit[range(len(rows)), rows] = 1.0
        parts.append(module.forward(unit) - none)
    return torch.cat(parts).T.contiguous()


def parameter_count(model: nn.Module, *, without: Collection[int] = ()) -> int:
    """Return how many numbers the weights of `model` stand for, each tensor once.

    A module that keeps codes counts as its matrix and bias; scales and zero points are not
    weights. Tensors whose `id` is in `without` are left out.
    """
    seen, total = set(without), 0
    for module in model.modules():
        shape = widths(module) if is_packed(module) else None
        held = list(module.parameters(recurse=False))
        if shape is not None:
            bias = getattr(module, "bias", None)
            total += shape.in_features * shape.out_features
            total += 0 if bias is None else bias.numel()
        else:
            total += sum(p.numel() for p in {id(p): p for p in held}.values() if id(p) not in seen)
        seen |= {id(p) for p in held}
    return total


def passes_gradient(module: Any) -> bool:
    """Return whether the gradient of `module`'s output reaches its input, as its weight has it."""
    shape = widths(module)
    assert shape is not None, "asked of linear modules"  # noqa: S101
    weight = weight_of(module).float()
    held = [t.dtype for t in _own(module) if t.is_floating_point() and t.dtype.itemsize > 1]
    kind = held[0] if held else torch.float32
    ramp = torch.linspace(-1.0, 1.0, 2 * shape.in_features, device=weight.device)
    given = ramp.reshape(2, -1).to(kind).requires_grad_()
    with torch.enable_grad():
        made = module.forward(given)
    if not made.requires_grad:
        return False
    (found,) = torch.autograd.grad(made.sum(), given)
    right = weight.sum(0).expand_as(found)
    return bool((found.float() - right).norm() <= 0.05 * right.norm() + 1e-6)
