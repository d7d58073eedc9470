"""What an AdamW step is going to do, before it does it, without a copy of the weights.

AdamW moves a tensor by dW = -lr (wd W + u), u = m' / c1 / (sqrt(v' / c2) + eps), with the moments
m' = b1 m + (1 - b1) g and v' = b2 v + (1 - b2) g^2 and the bias corrections c = 1 - b^t (Loshchilov
and Hutter 2019, algorithm 2). The update is linear in lr, so its size at one rate tells its size
at each.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from layerwise.tuning import norms
from layerwise.tuning.norms import Part, Shards, Workspace

TOLERANCE = 0.0017
"""Standard error of a sampled ||dW|| / ||W|| beyond which more is read: a third of 0.5%."""

RUN = 64
"""Neighbours that are sampled together; shorter runs cost nearly as much to read."""

WHOLE = 1 << 15
"""Tensors up to this size are read whole: a norm's gains are unlike a matrix's entries."""

SMALL = 1 << 13
"""Tensors up to this size are joined before anything is done to them."""

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73)

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """Which entries of large tensors stand for all: each `step`-th run, from the `first` on."""

    step: int = 1
    first: int = 0

    @classmethod
    def of(cls, parameters: Sequence[Tensor], wanted: int, draw: int) -> "Sample":
        """Get the thinnest sample that has `wanted` entries, starting where the number `draw` says.

        Its step is a prime that divides no matrix's width, so that it goes through all columns as
        it goes down the rows.
        """
        entries = sum(p.numel() for p in parameters)
        widths = {p.shape[-1] for p in parameters if p.numel() > WHOLE}
        fitting = [s for s in _PRIMES if s * wanted <= entries and all(w % s for w in widths)]
        return cls(fitting[-1], draw % fitting[-1]) if fitting else cls()


@dataclass(frozen=True)
class StepForecast:
    """A step that has not been made yet.

    Attributes:
        weight: ||W||.
        update: ||dW||.
        error: Relative standard error of their ratio; 0 where every entry was read.
    """

    weight: float
    update: float
    error: float = 0.0


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
    """Return why the steps of `optimizer` cannot be foreseen; empty where they can."""
    if type(optimizer) is not AdamW:
        return f"{type(optimizer).__name__} is not torch.optim.AdamW"
    for flag in ("amsgrad", "maximize", "differentiable"):
        if any(group[flag] for group in optimizer.param_groups):
            return f"AdamW has {flag}=True"
    if any(float(beta) == 0 for group in optimizer.param_groups for beta in group["betas"]):
        return "AdamW has a beta of 0"
    return ""


def foreseen(
    optimizer: Optimizer,
    groups: Sequence[Group],
    *,
    wanted: int | None = None,
    draw: int = 0,
    room: Workspace | None = None,
) -> StepForecast:
    """Return the step that AdamW would make on the tensors of `groups`, taken together.

    Args:
        optimizer: For its state; nothing of it is changed.
        groups: Parameter groups with the rates and settings that the step would use.
        wanted: How many entries are read at least, more where they differ so much that the ratio
            would be uncertain; None reads all.
        draw: Where the sample begins.
        room: What to work in; kept by the caller, it is not asked for anew at every step.
    """
    room = room or Workspace()
    parameters = [p for group in groups for p in group["params"]]
    while wanted is not None:
        sample = Sample.of(parameters, wanted, draw)
        if sample.step == 1:
            break
        found = _foreseen(optimizer, groups, sample, room)
        if found.error <= TOLERANCE:
            return found
        wanted *= 4
    return _foreseen(optimizer, groups, Sample(), room)


@dataclass
class _SquareSum:
    """A sum of squares over many tensors, and the variance of what a sample makes of it."""

    squares: list[Part] = field(default_factory=list)
    variances: list[Part] = field(default_factory=list)

    def add(self, chunk: Tensor, scale: float, over: Shards) -> None:
        """Count every number of a one-dimensional chunk, squared, `scale` times."""
        self.squares.append(Part(torch.dot(chunk, chunk), scale, over))

    def add_runs(self, squared: Tensor, scale: float, over: Shards) -> None:
        """Count squares in sampled runs, shape (runs, RUN), `scale` times.

        The variance is that of a systematic sample, from the differences between neighbouring
        runs: Cochran, Sampling Techniques (1977), section 8.11.
        """
        runs = squared.sum(1)
        steps = runs[1:] - runs[:-1]
        self.squares.append(Part(runs.sum(), scale, over))
        self.variances.append(Part(torch.dot(steps, steps), scale**2 / 2, over))

    def result(self) -> tuple[float, float]:
        """Return the norm and its relative standard error, half that of its square."""
        square, variance = norms.total(self.squares), norms.total(self.variances)
        return square**0.5, variance**0.5 / (2 * square) if square else 0.0


@dataclass(frozen=True)
class _Unit:
    """Tensors gone through together (W, and with a gradient it and both moments), all flat."""

    tensors: Sequence[Tensor]
    entries: int  # In all processes.
    rate: float
    factors: _Factors
    over: Shards  # The processes that share them.


@torch.inference_mode()
def _foreseen(
    optimizer: Optimizer, groups: Sequence[Group], sample: Sample, room: Workspace
) -> StepForecast:
    weights, updates = _SquareSum(), _SquareSum()
    for group in groups:
        for unit in _units(optimizer, group):
            if sample.step > 1 and unit.entries > WHOLE:
                _add_sampled(weights, updates, unit, sample, room)
            else:
                _add_whole(weights, updates, unit, room)
    (weight, error), (update, other) = weights.result(), updates.result()
    return StepForecast(weight, update, math.hypot(error, other))


def _units(optimizer: Optimizer, group: Group) -> Iterator[_Unit]:
    rate = float(group["lr"])
    alike: dict[tuple[Any, ...], list[list[Tensor]]] = {}
    for parameter in group["params"]:
        state = optimizer.state.get(parameter, {})
        step, over = float(state.get("step", 0.0)) + 1, norms.shards(parameter)
        tensors = _tensors(parameter, state)
        if parameter.numel() > SMALL:
            yield _Unit(tensors, parameter.numel(), rate, _Factors.of(group, step), over)
        else:
            kind = (len(tensors), tensors[0].dtype, tensors[0].device)
            alike.setdefault((step, over, kind), []).append(tensors)
    for (step, over, _), members in alike.items():
        joined = [torch.cat(same) for same in zip(*members, strict=True)]
        yield _Unit(joined, 0, rate, _Factors.of(group, step), over)


def _tensors(parameter: Tensor, state: Mapping[str, Tensor]) -> list[Tensor]:
    if parameter.grad is None:
        return [norms.flat(parameter)]
    gradient = norms.flat(parameter.grad)
    if "exp_avg" in state:
        moments = [norms.flat(state["exp_avg"]), norms.flat(state["exp_avg_sq"])]
    else:
        moments = [gradient.new_zeros(()).expand_as(gradient)] * 2
    return [norms.flat(parameter), gradient, *moments]


def _add_whole(weights: _SquareSum, updates: _SquareSum, unit: _Unit, room: Workspace) -> None:
    """Add this process's share of ||W||^2 and ||dW||^2, every entry of it."""
    for chunk in norms.chunks(*unit.tensors, size=norms.chunk_size(unit.tensors[0])):
        weight, *rest = map(norms.wide, chunk)
        weights.add(weight, 1.0, unit.over)
        if rest:
            above, below = _like(weight, room)
            size = _direction(unit.factors, (weight, *rest), above, below)
            updates.add(above, (unit.rate * size) ** 2, unit.over)


def _add_sampled(
    weights: _SquareSum, updates: _SquareSum, unit: _Unit, sample: Sample, room: Workspace
) -> None:
    """Add what a sample of this process's share makes of ||W||^2 and ||dW||^2."""
    entries, period, start = len(unit.tensors[0]), RUN * sample.step, RUN * sample.first
    rows = entries // period
    runs = [t[: rows * period].view(rows, period)[:, start : start + RUN] for t in unit.tensors]
    # What does not fill a period is never read, and counts as if it were like the rest.
    scale = entries / (rows * RUN) if rows else 0.0
    for chunk in norms.chunks(*runs, size=norms.chunk_size(runs[0]) // RUN):
        weight, *rest = map(norms.wide, chunk)
        above, below = _like(weight, room)
        weights.add_runs(torch.mul(weight, weight, out=below), scale, unit.over)
        if rest:
            size = _direction(unit.factors, (weight, *rest), above, below)
            updates.add_runs(above.square_(), scale * (unit.rate * size) ** 2, unit.over)


def _like(chunk: Tensor, room: Workspace) -> tuple[Tensor, Tensor]:
    """Two tensors to write in, of the shape of `chunk`."""
    size, shape = chunk.numel(), chunk.shape
    return room.take("above", size, chunk).view(shape), room.take("below", size, chunk).view(shape)


def _direction(factors: _Factors, chunk: tuple[Tensor, ...], above: Tensor, below: Tensor) -> float:
    """Write dW / -lr of a chunk into `above`, up to the factor that is returned.

    Both moments are divided by their beta, which saves two passes over the chunk.
    """
    weight, gradient, first, second = chunk
    torch.addcmul(second, gradient, gradient, value=factors.gradient2, out=below)
    below.sqrt_().add_(factors.eps)
    torch.add(first, gradient, alpha=factors.gradient1, out=above)
    if factors.decay < 1e-12:  # Also keeps the other branch's squares from overflowing.
        above.div_(below)
        return factors.ratio
    torch.addcdiv(weight, above, below, value=factors.ratio / factors.decay, out=above)
    return factors.decay
