"""A model lent to a trial: whatever is put into it comes out again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["borrowed"]


@contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """Inside, adapters may take the place of modules of `model`; after, all is as it was.

    Put back on any exit: which modules, parameters and hooks each module has, its attributes, the
    configuration's, and requires_grad; there is no gradient. Values of weights are not copied:
    adapters leave those of the model alone.
    """
    modules = [(module, _state(module)) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    config = getattr(model, "config", None)
    options = dict(vars(config)) if config is not None else {}
    try:
        yield
    finally:
        for module, state in modules:
            _restore(vars(module), state)
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
            parameter.grad = None
        if config is not None:
            vars(config).clear()
            vars(config).update(options)


def _state(module: nn.Module) -> dict[str, tuple[Any, dict[Any, Any] | None]]:
    """Each attribute, and what it holds where it is a mapping that is changed in place."""
    return {k: (v, dict(v) if isinstance(v, dict) else None) for k, v in vars(module).items()}


def _restore(own: dict[str, Any], state: Mapping[str, tuple[Any, dict[Any, Any] | None]]) -> None:
    own.clear()
    for name, (value, content) in state.items():
        if content is not None:
            value.clear()
            value.update(content)
        own[name] = value
