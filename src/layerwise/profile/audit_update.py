"""The update that an adapter makes to one weight, read off PEFT's modules as factors B and A."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import nn

from layerwise.errors import ModelError, NonFiniteError
from layerwise.models.linear import is_coded, is_packed, weight_of
from layerwise.objectives.forward import without_adapter
from layerwise.seeds import numpy_generator

#: Variants of LoRA whose change of the weight is scale B A; DoRA's is that and a magnitude.
_PLAIN = {"MiCALinearVariant", "MiCAEmbeddingVariant", "VeloraLinearVariant"}
_PLAIN |= {"ALoraLinearVariant", "MontecloraLinearVariant"}
_DORA = "Dora"
#: What the figures of an update do not count.
DORA_NOTE = (
    "DoRA: ranks and norms are those of B A; its magnitudes are counted in whole_relative_norm and "
    "output_change"
)
BIAS_NOTE = "biases of B in {} modules are not counted in ranks and norms"
#: How far factors may be from the change that PEFT computes, over that, in float32.
_UNLIKE = 1e-4


@dataclass(frozen=True)
class Update:
    """The update that the adapters of one module make to its weight: scale B A, never formed.

    Attributes:
        up: B times the scale, (e, o, r) float64; several adapters side by side, experts apart.
        down: A, (e, r, i) float64.
        base: The weight that is adapted, (e, o, i) as B A has it, in float32 at least; None where
            it cannot be read.
        rounding: The relative rounding of the weight as it is stored.
        magnitude: DoRA's length of each row, (o,); None elsewhere, or where it cannot be read.
        notes: What of it ranks and norms do not count; ``{}`` stands for the number of modules.
    """

    up: np.ndarray
    down: np.ndarray
    base: np.ndarray | None = None
    rounding: float = 0.0
    magnitude: torch.Tensor | None = None
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Return how many numbers the adapters hold, biases aside."""
        return (
            self.up.size
            + self.down.size
            + (0 if self.magnitude is None else self.magnitude.numel())
        )

    @property
    def rank(self) -> int:
        """Return the directions that there is room for: r, times the experts."""
        return int(self.up.shape[0] * self.up.shape[2])


def dora_change(found: Update) -> tuple[float, bool] | None:
    """Return how much DoRA changes a weight; None where it has no magnitudes, or no weight.

    Row i goes from w to (1 + c) (w + u), u that of B A. Given are the Frobenius norm of all that
    changes, c w + (1 + c) u, and whether any c is beyond the rounding of the magnitudes.
    """
    weight, magnitude = found.base, found.magnitude
    if weight is None or magnitude is None:
        return None
    up, down = found.up[0], found.down[0]
    w = np.square(weight[0], dtype=np.float64).sum(1)
    wu = 2.0 * ((weight[0] @ down.T.astype(weight.dtype)) * up).sum(1)
    u = ((up @ (down @ down.T)) * up).sum(1)
    lengths = np.sqrt(np.maximum(w + wu + u, np.finfo(np.float64).tiny))
    c = wide_array(magnitude) / lengths - 1.0
    squares = c**2 * w + c * (1.0 + c) * wu + (1.0 + c) ** 2 * u
    return sqrt(max(float(squares.sum()), 0.0)), bool(np.abs(c).max() > 8.0 * found.rounding)


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the modules of the base model that have an adapter, by their name there.

    Where parameters are adapted one by one, the name is the parameter's.
    """
    for name, module in without_adapter(model).named_modules():
        if hasattr(module, "get_base_layer") and hasattr(module, "active_adapters"):
            own = getattr(module, "parameter_name", None)
            plain = name.replace(".base_layer", "")
            yield (f"{plain}.{own}" if own else plain), module


def adapter_kinds(configs: Iterable[Any]) -> tuple[str, ...]:
    """Return what PEFT calls the adapters of such settings, and which variants they are of."""
    kinds: list[str] = []
    for config in configs:
        kinds.append(str(getattr(config.peft_type, "value", config.peft_type)))
        for flag, name in (("use_dora", "DoRA"), ("use_rslora", "rsLoRA")):
            if getattr(config, flag, False):
                kinds.append(name)
    return tuple(dict.fromkeys(kinds))


def whole_modules(configs: Iterable[Any]) -> tuple[str, ...]:
    """Return what such settings say was trained whole beside the adapters."""
    given = (getattr(config, "modules_to_save", None) for config in configs)
    return tuple(dict.fromkeys(n for ns in given if isinstance(ns, list | set) for n in ns))


def saved_modules(model: nn.Module) -> tuple[str, ...]:
    """Return the modules that were trained and saved whole, by their name in the base model."""
    named = without_adapter(model).named_modules()
    return tuple(name for name, module in named if hasattr(module, "modules_to_save"))


def unread_reason(layer: Any) -> str:
    """Return why the change by `layer` is not the product of its factors; empty where it is."""
    if not hasattr(layer, "lora_A"):
        return "this kind of adapter does not change the weight by a product of two factors"
    variants = {type(v).__name__ for v in getattr(layer, "lora_variant", {}).values() if v}
    odd = sorted(name for name in variants - _PLAIN if not name.startswith(_DORA))
    if odd:
        return f"{odd[0]} does more than add a product of two factors"
    if getattr(layer.get_base_layer(), "groups", 1) > 1:
        return "a convolution in groups"
    return "" if _active(layer) else "no adapter is active"


def _active(layer: Any) -> list[str]:
    held = [*getattr(layer, "lora_A", ()), *getattr(layer, "lora_embedding_A", ())]
    return [name for name in layer.active_adapters if name in held]


def update(name: str, layer: Any) -> Update:
    """Return what the active adapters of `layer` add to its weight.

    Raises:
        NonFiniteError: A factor has a value that is NaN or infinite.
        ModelError: Their product is not the change of the weight that PEFT computes.
    """
    factors = [_factors(layer, adapter) for adapter in _active(layer)]
    experts = int(getattr(layer, "num_experts", 1))
    # PEFT lets experts vary fastest in B, (o, r e), and slowest in A, (e r, i).
    ups = [up.reshape(len(up), -1, experts).transpose(2, 0, 1) for up, _ in factors]
    downs = [down.reshape(experts, -1, down.shape[1]) for _, down in factors]
    up, down = np.concatenate(ups, axis=2), np.concatenate(downs, axis=1)
    if not (np.isfinite(up).all() and np.isfinite(down).all()):
        msg = "adapter with NaN or infinite values"
        raise NonFiniteError(msg, value=name, expected="finite factors")
    _refuse_other(name, layer, up, down)
    held, base, rounding = _base(layer, up.shape[1], down.shape[2]), None, 0.0
    if held is not None:
        rounding = float(torch.finfo(held.dtype).eps)
        base = np.asarray((held if held.dtype.itemsize > 4 else held.float()).cpu())
    is_told = {
        DORA_NOTE: bool(getattr(layer, "lora_magnitude_vector", ())),
        BIAS_NOTE: any(getattr(layer, "lora_bias", {}).values()),
    }
    notes = tuple(note for note, is_so in is_told.items() if is_so)
    return Update(up, down, base, rounding, _magnitude(layer), notes)


def _factors(layer: Any, adapter: str) -> tuple[np.ndarray, np.ndarray]:
    """Return B with the scale, and A, as matrices: a convolution's kernels as rows."""
    scale = float(layer.scaling[adapter])
    if adapter in layer.lora_embedding_A:
        down, up = layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter]
    else:
        down, up = _weight(layer.lora_A[adapter]), _weight(layer.lora_B[adapter])
    down, up = wide_array(down), wide_array(up)
    if hasattr(layer, "lora_E"):  # AdaLoRA keeps singular values apart, and scales by their count.
        down = down * wide_array(layer.lora_E[adapter])
        scale /= float(layer.ranknum[adapter]) + 1e-5
    return scale * up.reshape(len(up), -1), down.reshape(len(down), -1)


def _refuse_other(name: str, layer: Any, up: np.ndarray, down: np.ndarray) -> None:
    """Pass factors whose product is the change of the weight that PEFT computes.

    Raises:
        ModelError: It is another one, whichever way round the weight is kept.
    """
    weight = getattr(layer.get_base_layer(), getattr(layer, "parameter_name", None) or "weight", 0)
    if not isinstance(weight, torch.Tensor) or weight.is_meta:
        return  # Some kinds of layer look at it to compute their change.
    if not hasattr(layer, "get_delta_weight"):
        return  # AdaLoRA on codes, whose change PEFT never computes.
    with torch.no_grad():
        change: torch.Tensor = sum(layer.get_delta_weight(each) for each in _active(layer))
    tolerance = max(_UNLIKE, 8.0 * float(torch.finfo(change.dtype).eps))
    wide = wide_array(change if len(up) > 1 else change.flatten(1)[None])
    probe = numpy_generator(0, "factors", name).standard_normal((down.shape[2], 1))
    ours = up @ (down @ probe)
    shape = len(up), up.shape[1], down.shape[2]
    found = [each @ probe for each in (wide, wide.swapaxes(1, 2)) if each.shape == shape]
    if any(np.linalg.norm(each - ours) <= tolerance * np.linalg.norm(ours) for each in found):
        return
    message = "adapter that was read wrong: its factors are not the change that PEFT makes"
    raise ModelError(message, value=name, expected="scale B A")


def _weight(held: Any) -> torch.Tensor:
    return held if isinstance(held, torch.Tensor) else held.weight


def wide_array(held: torch.Tensor) -> np.ndarray:
    """Return `held` in float64, which not every device has."""
    return np.asarray(held.detach().cpu().double().numpy())


def _magnitude(layer: Any) -> torch.Tensor | None:
    """Return DoRA's magnitude, where one adapter of a linear module has one."""
    held, active = getattr(layer, "lora_magnitude_vector", {}), _active(layer)
    is_linear = getattr(getattr(layer.get_base_layer(), "weight", None), "ndim", 0) == 2
    if len(active) != 1 or active[0] not in held or not is_linear or layer.lora_embedding_A:
        return None
    return _weight(held[active[0]]).detach()


def _base(layer: Any, rows: int, columns: int) -> torch.Tensor | None:
    """Return the weight that is adapted, (e, rows, columns); None if packed or not there."""
    name = getattr(layer, "parameter_name", None) or "weight"
    base = layer.get_base_layer()
    weight: Any = getattr(base, name, None)
    if is_packed(base):
        try:
            weight = weight_of(base)
        except (NotImplementedError, RuntimeError):  # Nothing here can read these codes.
            return None
    is_there = isinstance(weight, torch.Tensor) and not weight.is_meta  # Else it is on disk.
    if not is_there or is_coded(weight) or weight.ndim < 2:
        return None
    several = weight.ndim == 3 and hasattr(layer, "num_experts")
    matrices = weight.detach() if several else weight.detach().flatten(1)[None]
    both = (matrices, matrices.mT)
    if getattr(layer, "fan_in_fan_out", False):
        both = both[::-1]
    return next((m for m in both if m.shape[1:] == (rows, columns)), None)
