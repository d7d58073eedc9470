"""What adapters add to the outputs of their modules, on real inputs: heard during a forward."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from layerwise.objectives.forward import body
from layerwise.profile.audit_update import adapted_layers
from layerwise.shapes import Tensor

__all__ = ["OutputChanges", "record_outputs"]


@dataclass
class OutputChanges:
    """Sums of squares over tokens, by module: of what the adapter adds, and of what was there."""

    added: dict[str, Tensor] = field(default_factory=dict)
    there: dict[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None
    waiting: dict[str, Tensor] = field(default_factory=dict)

    @property
    def changes(self) -> Mapping[str, float]:
        """Root mean square of what was added over that of what was there, by module."""
        pairs = ((name, float(self.added[name]), float(self.there[name])) for name in self.added)
        return {name: (added / there) ** 0.5 for name, added, there in pairs if there > 0.0}

    def start(self, _: nn.Module, __: Any, options: Mapping[str, Any]) -> None:
        """Begin a batch: the model's forward pre-hook, which tells the padding."""
        mask = options.get("attention_mask")
        self.mask = mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None

    def before(self, name: str, _: nn.Module, __: Any, output: Any) -> None:
        """The hook of a module without its adapter; some adapters add to its output in place."""
        if isinstance(output, Tensor):
            self.waiting[name] = output.detach().clone()

    def after(self, name: str, _: nn.Module, __: Any, output: Any) -> None:
        """The hook of the module with its adapter."""
        there = self.waiting.pop(name, None)
        if there is None or not isinstance(output, Tensor) or output.shape != there.shape:
            return
        for sums, value in ((self.added, output.detach() - there), (self.there, there)):
            found = self._counted(value).double().square().sum()
            sums[name] = sums[name] + found if name in sums else found

    def _counted(self, value: Tensor) -> Tensor:
        """The rows of `value` that are no padding; all, where rows are not the batch's tokens."""
        mask = self.mask
        if mask is None:
            return value
        if value.shape[:2] == mask.shape:
            return value[mask.to(value.device)]
        flat = value.ndim == 2 and len(value) == mask.numel()
        return value[mask.flatten().to(value.device)] if flat else value


@contextmanager
def record_outputs(model: nn.Module) -> Iterator[OutputChanges]:
    """Inside, each forward of `model` adds to what is given; after, no hook is left.

    Adapters that are merged, that act on a parameter or otherwise than by adding to an output are
    not heard.
    """
    found = OutputChanges()
    with ExitStack() as handles:
        hook = body(model).register_forward_pre_hook(found.start, with_kwargs=True)
        handles.callback(hook.remove)
        for name, layer in adapted_layers(model):
            if _adds(layer):
                inner = layer.base_layer.register_forward_hook(partial(found.before, name))
                outer = layer.register_forward_hook(partial(found.after, name))
                handles.callback(inner.remove)
                handles.callback(outer.remove)
        yield found
    found.waiting.clear()


def _adds(layer: Any) -> bool:
    own = hasattr(layer, "lora_A") and isinstance(getattr(layer, "base_layer", None), nn.Module)
    return own and not getattr(layer, "merged", False) and not hasattr(layer, "parameter_name")
