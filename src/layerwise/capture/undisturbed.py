"""A model borrowed for measuring: frozen inside, exactly as it was outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from layerwise.seeds import derive, rng_untouched

__all__ = ["undisturbed"]


@contextmanager
def undisturbed(model: nn.Module, *, training: bool, seed: int) -> Iterator[None]:
    """Inside, every weight is frozen and dropout is on only if `training`; after, all is as before.

    Restores train mode of every module, requires_grad and grad of every parameter, the cache and
    checkpointing flags, and torch's random state, on any exit.
    """
    modes = [(m, m.training) for m in model.modules()]
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    flags = _flags(model)
    try:
        _freeze(model, training=training)
        for holder, name in flags:
            setattr(holder, name, False)
        with rng_untouched(derive(seed, "pass")):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, wanted, gradient in parameters:
            parameter.requires_grad_(wanted)
            parameter.grad = gradient
        for holder, name in flags:
            setattr(holder, name, True)


def _freeze(model: nn.Module, *, training: bool) -> None:
    model.train(training)
    for parameter in model.parameters():
        parameter.requires_grad = False
        parameter.grad = None


def _flags(model: nn.Module) -> list[tuple[Any, str]]:
    """Switches that must be off in a pass: recomputation runs hooks twice, a cache costs memory."""
    checkpointing = [
        (m, "gradient_checkpointing")
        for m in model.modules()
        if _is_on(m, "gradient_checkpointing")
    ]
    config = getattr(model, "config", None)
    holders = [c for c in (config, getattr(config, "text_config", None)) if c is not None]
    cached = [(c, "use_cache") for c in holders if _is_on(c, "use_cache")]
    return [*checkpointing, *cached]


def _is_on(holder: object, name: str) -> bool:
    return getattr(holder, name, None) is True
