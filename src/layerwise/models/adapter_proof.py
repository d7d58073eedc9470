"""The proof that an adapter was read right: folded in, a module computes what PEFT's own does."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from layerwise.errors import ModelError
from layerwise.models.linear import weight_of
from layerwise.seeds import torch_generator
from layerwise.shapes import Tensor

#: How far both may differ, over what the adapter does to the output; and over the output itself,
#: for what is below float32's rounding of sums.
TOLERANCE, ROUNDING = 1e-4, 2e-6
_ROWS = 4
# What layers raise that cannot be called on such inputs, or folded in. PEFT hands embeddings of
# positions, which count them themselves, what it looks its own rows up by: that is out of range.
_UNFIT = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def adapted_modules(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the outermost modules under `module` that an adapter stands in for, by name.

    Those are PEFT's layers, told by what they can do, and its wrappers of modules that were
    trained whole or in some rows.
    """
    for name, child in module.named_children():
        if _is_layer(child) or hasattr(child, "modules_to_save") or _rows_of(child) is not None:
            yield f"{prefix}{name}", child
        else:
            yield from adapted_modules(child, f"{prefix}{name}.")


def _is_layer(module: Any) -> bool:
    return hasattr(module, "merge") and hasattr(module, "get_base_layer")


def _rows_of(module: Any) -> Any:
    """Return the layer in PEFT's wrapper of an embedding that trained in some rows."""
    return getattr(module, "token_adapter", None)


def layer_of(module: Any) -> Any:
    """Return the PEFT layer that `module` is or wraps; None for a module that was trained whole."""
    inner = _rows_of(module)
    return inner if inner is not None else (module if _is_layer(module) else None)


def fold(module: Any, *, name: str, source: str) -> nn.Module:
    """Return what `module`, an adapted one in eval mode, is with its adapter in its weights.

    Its own weights change. Both are called on small random inputs, in float32, and compared.

    Raises:
        ModelError: The adapter cannot be folded in, or the outcome computes something else than
            PEFT does.
    """
    layer = layer_of(module)
    if layer is None:
        whole: nn.Module = module.modules_to_save[module.active_adapter]
        return whole
    dtype = _dtype(layer)
    layer.float()
    inputs = random_inputs(layer, name=name, source=source)
    try:
        wanted = call(layer, inputs)
        _switch(layer, on=False)
        before = call(layer, inputs)
        _switch(layer, on=True)
        plain = _merged(layer)
        found = call(plain, inputs)
    except _UNFIT as error:
        message = f"adapter whose {type(layer).__name__} on {name} cannot be folded in ({error})"
        raise ModelError(message, value=source, expected="a change of weights") from error
    refuse_unlike(found, wanted, before, name=name, source=source)
    return plain.to(dtype)


def prove_on_codes(layer: Any, *, name: str, source: str) -> None:
    """Pass a layer on a module that keeps codes: they stay, and LoRA adds what was read of it.

    That is scale B A of the input, and of DoRA a new length of each row beside. Of other kinds
    nothing is used but PEFT's own forward.

    Raises:
        ModelError: PEFT adds something else to the output, or its forward does not run.
    """
    inputs = random_inputs(layer, name=name, source=source)
    try:
        wanted = call(layer, inputs)
        _switch(layer, on=False)
        before = call(layer, inputs)
        _switch(layer, on=True)
    except _UNFIT as error:
        message = f"adapter whose {type(layer).__name__} on {name} does not run ({error})"
        raise ModelError(message, value=source, expected="one for quantised weights") from error
    if hasattr(layer, "lora_A") and not hasattr(layer, "lora_E"):
        found = _with_product(layer, inputs[0].double(), before)
        refuse_unlike(found, wanted, before, name=name, source=source)


@torch.no_grad()
def _with_product(layer: Any, rows: Tensor, before: Tensor) -> Tensor:
    """Return what the adapters of a LoRA layer make of `before`, the output for `rows` without."""
    base = layer.get_base_layer()
    found = before
    for name in layer.active_adapters:
        down, up = (part[name].weight.double() for part in (layer.lora_A, layer.lora_B))
        added = rows @ down.T @ up.T + (0 if (bias := layer.lora_B[name].bias) is None else bias)
        added = layer.scaling[name] * added
        if name in layer.lora_magnitude_vector:
            whole = weight_of(base).double() + layer.scaling[name] * up @ down
            length = layer.lora_magnitude_vector[name].weight.double() / whole.norm(dim=1)
            product = before - (0 if base.bias is None else base.bias)
            added = length * added + (length - 1.0) * product
        found = found + added
    return found


def refuse_unlike(found: Tensor, wanted: Tensor, before: Tensor, *, name: str, source: str) -> None:
    """Pass an output that is what PEFT gives; `before` is that without the adapter.

    Raises:
        ModelError: It is not; the module and the difference are named.
    """
    effect, off = float((wanted - before).norm()), float((found - wanted).norm())
    if not off <= TOLERANCE * effect + ROUNDING * float(wanted.norm()):
        message = f"adapter that was read wrong on {name}: off by {off / (effect or 1.0):.2g}"
        expected = f"at most {TOLERANCE:g} of its effect, by PEFT's own forward"
        raise ModelError(message, value=source, expected=expected)


def _dtype(layer: Any) -> torch.dtype:
    base = layer.get_base_layer()
    return next((p.dtype for p in base.parameters() if p.is_floating_point()), torch.float32)


def _switch(layer: Any, *, on: bool) -> None:
    for each in layer.modules():
        if hasattr(each, "enable_adapters"):
            each.enable_adapters(on)


def _merged(layer: Any) -> nn.Module:
    """Return the base's module after PEFT folded each of its layers around it in."""
    if hasattr(layer, "unload_and_optionally_merge_module"):
        how = {"merge": True, "safe_merge": False, "adapter_names": None}
        unloaded: nn.Module = layer.unload_and_optionally_merge_module(**how)
        return unloaded
    inner = layer_of(getattr(layer, "base_layer", None))
    if inner is not None:  # Where that is in a wrapper, PEFT would merge into what it hands out.
        layer.base_layer = _merged(inner)
    layer.merge(safe_merge=False)
    plain: nn.Module = layer.get_base_layer()
    return plain


@torch.no_grad()
def call(module: Any, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return what `module` makes of `inputs`, its first output, in float64."""
    made = module(*inputs)
    first: Tensor = made[0] if isinstance(made, tuple) else made
    return first.detach().double()


def random_inputs(layer: Any, *, name: str, source: str) -> tuple[Tensor, ...]:
    """Return small random inputs for the base's module under `layer`.

    Raises:
        ModelError: What kind of module it is, is not known.
    """
    base = layer.get_base_layer()
    made = _made_inputs(base, torch_generator(0, "adapter proof", name))
    if made is None:
        message = f"adapter on {name}, a {type(base).__name__}, which it cannot be tried on"
        raise ModelError(message, value=source, expected="a linear, embedding or norm module")
    device = next(base.parameters()).device
    return tuple(tensor.to(device) for tensor in made)


def _made_inputs(base: Any, generator: torch.Generator) -> tuple[Tensor, ...] | None:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    if isinstance(base, nn.Embedding):
        return (torch.randint(base.num_embeddings, (1, 4 * _ROWS), generator=generator),)
    if isinstance(base, nn.modules.conv._ConvNd):
        sizes = (d * (k - 1) + 3 for d, k in zip(base.dilation, base.kernel_size, strict=True))
        return (normal(1, base.in_channels, *sizes),)
    if isinstance(base, nn.MultiheadAttention):
        return (normal(_ROWS, 2, base.embed_dim),) * 3
    width = getattr(base, "in_features", None)
    weight = getattr(base, "weight", None)
    if width is None and isinstance(weight, Tensor) and weight.ndim in (1, 2):
        width = weight.shape[0 if isinstance(base, Conv1D) else -1]  # Else a norm, a router.
    return _expert_inputs(base, normal) if width is None else (normal(1, _ROWS, int(width)),)


def _expert_inputs(base: Any, normal: Any) -> tuple[Tensor, ...] | None:
    """Return what a module of fused experts is called with: each expert sees one token."""
    names = list(inspect.signature(base.forward).parameters)
    stacks = [p for p in base.parameters() if p.ndim == 3]
    width = getattr(base, "hidden_dim", None) or getattr(base, "hidden_size", None)
    if not stacks or width is None or len(names) not in (1, 3):
        return None
    count = len(stacks[0])
    chosen = torch.arange(count)[:, None]
    return (normal(count, int(width)), chosen, torch.ones(count, 1))[: len(names)]
