"""What an AdamW step is going to do, before it does it, without a copy of the weights.

AdamW moves a tensor by dW = -lr (wd W + u), u = m' / c1 / (sqrt(v' / c2) + eps), with the moments
m' = b1 m + (1 - b1) g and v' = b2 v + (1 - b2) g^2 and the bias corrections c = 1 - b^t (Loshchilov
and Hutter 2019, algorithm 2). The update is linear in lr, so its size at one rate tells its size
at each.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from layerwise.tuning import norms
from layerwise.tuning.norms import CHUNK, Part

__all__ = ["Sample", "foreseen", "obstacle"]

RUN = 16
"""Neighbours that are sampled together: a cache line of float32."""

WHOLE = 1 << 15
"""Tensors up to this size are read whole: a norm's gains are unlike a matrix's entries."""

_THINNINGS = (2, 3, 5, 7, 11, 13)

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """Which entries of large tensors stand for all: each `step`-th run of 16, from `first` on."""

    step: int = 1
    first: int = 0

    @classmethod
    def of(cls, entries: int, wanted: int, draw: int) -> "Sample":
        """The thinnest sample that has `wanted` of `entries`, starting where `draw` says.

        Its step is prime, so that it goes through all columns of a matrix as it goes down.
        """
        fitting = [step for step in _THINNINGS if step * wanted <= entries]
        return cls(fitting[-1], draw % fitting[-1]) if fitting else cls()


@dataclass(frozen=True)
class _Factors:
    """The numbers that one tensor's step is made of, for `_direction`."""

    gradient1: float
    gradient2: float
    eps: float
    decay: float
    ratio: float

    @classmethod
    def of(cls, group: Group, step: float) -> "_Factors":
        beta1, beta2 = map(float, group["betas"])
        second = ((1 - beta2**step) / beta2) ** 0.5
        return cls(
            gradient1=(1 - beta1) / beta1,
            gradient2=(1 - beta2) / beta2,
            eps=float(group["eps"]) * second,
            decay=float(group["weight_decay"]),
            ratio=beta1 / (1 - beta1**step) * second,
        )


def obstacle(optimizer: Optimizer) -> str:
    """Why the steps of `optimizer` cannot be foreseen; empty where they can."""
    if type(optimizer) is not AdamW:
        return f"{type(optimizer).__name__} is not torch.optim.AdamW"
    for flag in ("amsgrad", "maximize", "differentiable"):
        if any(group[flag] for group in optimizer.param_groups):
            return f"AdamW has {flag}=True"
    if any(float(beta) == 0 for group in optimizer.param_groups for beta in group["betas"]):
        return "AdamW has a beta of 0"
    return ""


def foreseen(
    optimizer: Optimizer, groups: Sequence[Group], sample: Sample | None = None
) -> tuple[float, float]:
    """(||W||, ||dW||) of the step that AdamW would make on `groups`, all taken together.

    Args:
        optimizer: For its state; nothing of it is changed.
        groups: Parameter groups with the rates and settings that the step would use.
        sample: The entries that are looked at; all of them by default.
    """
    sample = sample or Sample()
    weights, updates = [], []
    for group in groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            for weight, update in _squares(parameter, state, group, sample):
                weights.append(weight)
                updates.append(update)
    return norms.total(weights) ** 0.5, norms.total(updates) ** 0.5


def _squares(
    parameter: Tensor, state: Mapping[str, Tensor], group: Group, sample: Sample
) -> Iterator[tuple[Part, Part]]:
    """(||W||^2, ||dW||^2) of this process's share of one tensor, chunk by chunk."""
    factors = _Factors.of(group, float(state.get("step", 0.0)) + 1)
    rate, over = float(group["lr"]), norms.shards(parameter)
    thinned = sample if parameter.numel() > WHOLE else Sample()
    for scale, weight, *rest in _chunks(_tensors(parameter, state), thinned):
        square = norms.square(weight)
        if rest:
            direction, size = _direction(factors, weight, *rest)
            update = Part(norms.square(direction), scale * (rate * size) ** 2, over)
        else:
            update = Part(torch.zeros_like(square), over=over)
        yield Part(square, scale, over), update


def _tensors(parameter: Tensor, state: Mapping[str, Tensor]) -> list[Tensor]:
    """W, gradient and both moments, flat; W alone where there is no gradient."""
    if parameter.grad is None:
        return [norms.flat(parameter)]
    gradient = norms.flat(parameter.grad)
    zero = torch.zeros((), dtype=gradient.dtype, device=gradient.device).expand_as(gradient)
    moments = [norms.flat(state[name]) for name in ("exp_avg", "exp_avg_sq") if state]
    return [norms.flat(parameter), gradient, *(moments or (zero, zero))]


def _chunks(tensors: Sequence[Tensor], sample: Sample) -> Iterator[tuple[Any, ...]]:
    """(scale, chunks of the tensors in one dimension): what a chunk counts, and its numbers."""
    if sample.step == 1:
        for chunk in norms.chunks(*tensors):
            yield (1.0, *map(norms.wide, chunk))
        return
    period = RUN * sample.step
    rows = len(tensors[0]) // period
    start = RUN * sample.first
    runs = [t[: rows * period].view(rows, period)[:, start : start + RUN] for t in tensors]
    for chunk in norms.chunks(*runs, size=CHUNK // RUN):
        yield (float(sample.step), *(norms.wide(t.reshape(-1)) for t in chunk))
    # What does not fill a period is read whole.
    for chunk in norms.chunks(*(t[rows * period :] for t in tensors)):
        yield (1.0, *map(norms.wide, chunk))


def _direction(
    factors: _Factors, weight: Tensor, gradient: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, float]:
    """A chunk's dW / -lr as a tensor and a number to multiply it with.

    Both moments are divided by their beta, which saves two passes over the chunk.
    """
    below = torch.addcmul(second, gradient, gradient, value=factors.gradient2)
    below = below.sqrt_().add_(factors.eps)
    above = torch.add(first, gradient, alpha=factors.gradient1)
    if factors.decay < 1e-12:  # Also keeps the other branch's squares from overflowing.
        return above.div_(below), factors.ratio
    value = factors.ratio / factors.decay
    return torch.addcdiv(weight, above, below, value=value, out=above), factors.decay
