"""The change that adapters make to the outputs of their modules, on real inputs."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from layerwise.compat.torch import widened
from layerwise.objectives.forward import body
from layerwise.profile.audit_update import adapted_layers
from layerwise.shapes import Tensor


@dataclass
class OutputChanges:
    """Sums of squares over tokens, by module: of the adapter's addition and the output before."""

    added: dict[str, Tensor] = field(default_factory=dict)
    before: dict[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None
    waiting: dict[str, Tensor] = field(default_factory=dict)

    @property
    def changes(self) -> Mapping[str, float]:
        """Return the root mean square of the addition over that of the output before, by module."""
        pairs = ((name, float(self.added[name]), float(self.before[name])) for name in self.added)
        return {name: (added / before) ** 0.5 for name, added, before in pairs if before > 0.0}

    def start(self, _: nn.Module, __: Any, options: Mapping[str, Any]) -> None:
        """Begin a batch: the model's forward pre-hook, which sees the padding."""
        mask = options.get("attention_mask")
        self.mask = mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None

    def record_base(self, name: str, _: nn.Module, __: Any, output: Any) -> None:
        """Keep the output of a module without its adapter, which may add to it in place."""
        if isinstance(output, Tensor):
            self.waiting[name] = output.detach().clone()

    def record_adapted(self, name: str, _: nn.Module, __: Any, output: Any) -> None:
        """Add up what the module with its adapter gives."""
        base = self.waiting.pop(name, None)
        if base is None or not isinstance(output, Tensor) or output.shape != base.shape:
            return
        for sums, value in ((self.added, output.detach() - base), (self.before, base)):
            squares = widened(self._without_padding(value)).square().sum()
            sums[name] = sums[name] + squares if name in sums else squares

    def _without_padding(self, value: Tensor) -> Tensor:
        """Return the rows that are no padding; all, where rows are not the batch's tokens."""
        mask = self.mask
        if mask is None or not (value.shape[:2] == mask.shape or len(value) == mask.numel()):
            return value
        return value.reshape(mask.numel(), -1)[mask.flatten().to(value.device)]


@contextmanager
def record_outputs(model: nn.Module) -> Iterator[OutputChanges]:
    """Record inside each forward of `model`; after, no hook is left.

    Adapters that are merged, that act on a parameter or otherwise than by adding to an output are
    not recorded.
    """
    changes = OutputChanges()
    with ExitStack() as handles:
        hook = body(model).register_forward_pre_hook(changes.start, with_kwargs=True)
        handles.callback(hook.remove)
        for name, layer in adapted_layers(model):
            base = getattr(layer, "base_layer", None)
            adds = hasattr(layer, "lora_A") and not hasattr(layer, "parameter_name")
            if adds and isinstance(base, nn.Module) and not getattr(layer, "merged", False):
                for module, record in (
                    (base, changes.record_base),
                    (layer, changes.record_adapted),
                ):
                    handles.callback(module.register_forward_hook(partial(record, name)).remove)
        yield changes
    changes.waiting.clear()
