"""What adapters themselves cost, which no pass over a frozen model shows: they are timed apart.

On small models, or at few tokens a batch, calling an adapter takes longer than what it computes;
counting its operations says next to nothing. So one of each shape is run by itself, forward and
backward, on as many tokens as the pass's batches had.
"""

import statistics
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import linear

from layerwise.capture.clock import Clock, clock_for
from layerwise.capture.stats import AdaptedModule
from layerwise.shapes import Array, Float64, Tensor

#: Times that each shape is run, after one that warms up (ours).
REPEATS = 7


def adapter_seconds(
    modules: Sequence[AdaptedModule],
    *,
    blocks: int,
    tokens: int,
    rank: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Float64[Array, "l"]:
    """Seconds of forward and backward of the adapters of each block; 0 for a block without any.

    `tokens` are those of a batch, `dtype` is the model's: adapters are in float32 beside it.
    """
    clock, known = clock_for(device), dict[tuple[int, int], float]()
    total = np.zeros(blocks)
    for module in modules:
        shape = module.in_features, module.out_features
        if shape not in known:
            known[shape] = _seconds(_tensors(shape, tokens, rank, device, dtype), clock)
        total[module.row] += known[shape]
    return total


def _tensors(
    shape: tuple[int, int], tokens: int, rank: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Give an input, the base module's output, A and B: what they hold does not change the time."""
    wide, out = shape
    narrow = torch.float32
    sizes = [((tokens, wide), dtype), ((tokens, out), dtype)]
    sizes += [((rank, wide), narrow), ((out, rank), narrow)]
    return tuple(
        torch.ones(size, device=device, dtype=kind).requires_grad_() for size, kind in sizes
    )


def _seconds(tensors: Sequence[Tensor], clock: Clock) -> float:
    """Time it as LoRA runs it: base + scaling * B A x, and all four gradients."""
    given, base, down, up = tensors
    moments = []
    for _ in range(REPEATS + 1):
        start = clock.mark()
        with torch.enable_grad():
            change = linear(linear(given.to(down.dtype), down), up) * 2.0
            whole = base + change.to(base.dtype)
        torch.autograd.grad(whole, tensors, torch.ones_like(whole))
        moments.append((start, clock.mark()))
    return statistics.median(clock.seconds(start, end) for start, end in moments[1:])
