"""A model lent for training: its weights change, and nothing else about it."""

import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
from torch import nn

from layerwise.seeds import derive, rng_untouched

__all__ = ["drawn_by", "lent", "weights_kept"]

# Where Accelerate puts autocast around a forward, and what it keeps beside it.
_WRAPPED = ("forward", "_original_forward")
_CHECKPOINTED = "gradient_checkpointing"


@contextmanager
def lent(model: nn.Module, trained: Collection[str]) -> Iterator[None]:
    """Inside, the parameters named in `trained` train and no others.

    After, on any exit: requires_grad, the forward and the checkpointing flags are as before, there
    is no gradient, and the model is in eval mode.
    """
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    flags = [(m, m.gradient_checkpointing) for m in model.modules() if hasattr(m, _CHECKPOINTED)]
    own = {name: vars(model)[name] for name in _WRAPPED if name in vars(model)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])
            parameter.grad = None
        for module, flag in flags:
            module.gradient_checkpointing = flag
        _restore(model, own)
        model.eval()


def _restore(model: nn.Module, own: Mapping[str, Any]) -> None:
    """Give `model` back what it has of its own under the names that Accelerate takes."""
    for name in _WRAPPED:
        vars(model).pop(name, None)
    vars(model).update(own)


@contextmanager
def weights_kept(model: nn.Module) -> Iterator[None]:
    """Inside, the weights and buffers of `model` may change; after, they are what they were.

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
    """Inside, randomness starts from `seed`; after, each generator is where it was before.

    Trainer seeds Python's and NumPy's generators too.
    """
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002  # what Trainer seeds
    try:
        with rng_untouched(derive(seed, purpose)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002  # likewise
