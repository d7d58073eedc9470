"""A model that is changed for a while: what is put back after, on any exit."""

import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import numpy as np
from torch import nn

from layerwise.models.reading import quiet
from layerwise.seeds import derive, rng_untouched

# Where Accelerate puts autocast around a forward, and what it keeps beside it.
_WRAPPED = ("forward", "_original_forward")
_CHECKPOINTING = "gradient_checkpointing"


@contextmanager
def frozen(model: nn.Module, *, training: bool, seed: int) -> Iterator[None]:
    """Freeze every weight inside, with dropout only if `training`; after, all is as before.

    Restores train mode of every module, requires_grad and grad of every parameter, the cache and
    checkpointing flags, and torch's random state.
    """
    modes = [(m, m.training) for m in model.modules()]
    gradients = [(p, p.grad) for p in model.parameters()]
    flags = _flags(model)
    with requires_grad_kept(model):
        try:
            model.train(training)
            for parameter, _ in gradients:
                parameter.requires_grad = False
                parameter.grad = None
            for holder, name in flags:
                setattr(holder, name, False)
            with rng_untouched(derive(seed, "pass")):
                yield
        finally:
            for module, mode in modes:
                module.training = mode
            for parameter, gradient in gradients:
                parameter.grad = gradient
            for holder, name in flags:
                setattr(holder, name, True)


def _flags(model: nn.Module) -> list[tuple[Any, str]]:
    """Switches that must be off in a pass: recomputation runs hooks twice, a cache costs memory."""
    config = getattr(model, "config", None)
    holders = [c for c in (config, getattr(config, "text_config", None)) if c is not None]
    every = [*((m, _CHECKPOINTING) for m in model.modules()), *((c, "use_cache") for c in holders)]
    return [(holder, name) for holder, name in every if getattr(holder, name, None) is True]


@contextmanager
def requires_grad_kept(model: nn.Module) -> Iterator[None]:
    """Put back after which parameters of `model` want a gradient."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


@contextmanager
def weights_shown(model: Any) -> Iterator[None]:
    """Let the modules of `model` attend in eager inside and hand out their attention weights.

    Where that cannot be had, nothing is changed. After, all is as before.
    """
    held = [c for m in model.modules() if (c := getattr(m, "config", None)) is not None]
    held += [part for config in held for part in vars(config).values() if hasattr(part, "to_dict")]
    states = [(config, dict(vars(config))) for config in {id(c): c for c in held}.values()]
    try:
        with quiet(), suppress(ValueError, NotImplementedError):  # Some say that they cannot.
            model.set_attn_implementation("eager")
        for config, _ in states:
            vars(config)["_output_attentions"] = True  # The public name asks for eager everywhere.
        yield
    finally:
        for config, state in states:
            vars(config).clear()
            vars(config).update(state)


@contextmanager
def trainable(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Let the parameters in `names` train inside, and no others.

    After, requires_grad, the forward and the checkpointing flags are as before, there is no
    gradient, and the model is in eval mode. The weights are what training made of them.
    """
    flags = [(m, m.gradient_checkpointing) for m in model.modules() if hasattr(m, _CHECKPOINTING)]
    own = {name: vars(model)[name] for name in _WRAPPED if name in vars(model)}
    with requires_grad_kept(model):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        try:
            yield
        finally:
            model.zero_grad(set_to_none=True)
            for module, flag in flags:
                module.gradient_checkpointing = flag
            for name in _WRAPPED:
                vars(model).pop(name, None)
            vars(model).update(own)
            model.eval()


@contextmanager
def modules_kept(model: nn.Module) -> Iterator[None]:
    """Let adapters take the place of modules of `model` inside; after, all is as it was.

    Put back are which modules, parameters and hooks each module has, its attributes, the
    configuration's, and requires_grad; there is no gradient. Values of weights are not copied:
    adapters leave those of the model alone.
    """
    modules = [(module, _state(module)) for module in model.modules()]
    config = getattr(model, "config", None)
    options = dict(vars(config)) if config is not None else {}
    with requires_grad_kept(model):
        try:
            yield
        finally:
            for module, state in modules:
                _put_back(vars(module), state)
            model.zero_grad(set_to_none=True)
            if config is not None:
                vars(config).clear()
                vars(config).update(options)


def _state(module: nn.Module) -> dict[str, tuple[Any, dict[Any, Any] | None]]:
    """Return each attribute, and what it holds where it is a mapping that is changed in place."""
    return {k: (v, dict(v) if isinstance(v, dict) else None) for k, v in vars(module).items()}


def _put_back(own: dict[str, Any], state: Mapping[str, tuple[Any, dict[Any, Any] | None]]) -> None:
    own.clear()
    for name, (value, content) in state.items():
        if content is not None:
            value.clear()
            value.update(content)
        own[name] = value


@contextmanager
def weights_kept(model: nn.Module) -> Iterator[None]:
    """Let the weights and buffers of `model` change inside; after, they are what they were.

    A copy lies in main memory meanwhile.
    """
    every = chain(model.parameters(), model.buffers())  # A tied one comes once.
    held = [(tensor, tensor.detach().to("cpu", copy=True)) for tensor in every]
    try:
        yield
    finally:
        for tensor, kept in held:
            tensor.data.copy_(kept)


@contextmanager
def drawn_by(seed: int, purpose: str) -> Iterator[None]:
    """Let randomness start from `seed` inside; after, each generator is where it was before.

    Trainer seeds Python's and NumPy's generators too.
    """
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002  # what Trainer seeds
    try:
        with rng_untouched(derive(seed, purpose)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002  # likewise
