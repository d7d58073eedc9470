"""Norms of parameters and of their changes: chunked, summed in float64, whole over all shards.

One float32 sum over tens of millions of squares is off in the third digit. Here each chunk is a
float32 dot product that stays in the processor's cache, and the chunks are added up in float64.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

__all__ = ["CHUNK", "Part", "change", "chunks", "flat", "local", "norm", "shards", "total", "wide"]

CHUNK = 1 << 18
"""Numbers that are worked on at a time: a few such buffers fit a processor core's cache."""


@dataclass(frozen=True)
class Part:
    """A share of a sum.

    Attributes:
        value: What was summed up, a scalar.
        scale: What it counts.
        over: The process groups whose processes hold the other shares.
    """

    value: Tensor
    scale: float = 1.0
    over: tuple[dist.ProcessGroup, ...] = ()


def local(tensor: Tensor) -> Tensor:
    """What this process holds of `tensor`, sharing its memory: a sharded tensor's own shard."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def flat(tensor: Tensor) -> Tensor:
    """`local(tensor)` in one dimension; a view, except of a tensor with gaps or turned strides."""
    return local(tensor).reshape(-1)


def shards(tensor: Tensor) -> tuple[dist.ProcessGroup, ...]:
    """The process groups that `tensor` is divided among; none where this process has all of it."""
    if not isinstance(tensor, DTensor):
        return ()
    divided = [i for i, p in enumerate(tensor.placements) if not p.is_replicate()]
    return tuple(tensor.device_mesh.get_group(i) for i in divided)


def chunks(*tensors: Tensor, size: int = CHUNK) -> Iterator[tuple[Tensor, ...]]:
    """Equally long tensors, `size` of their rows at a time; one empty chunk of empty tensors."""
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def wide(tensor: Tensor) -> Tensor:
    """`tensor` in a type that squares can be summed in: float32 for the half precisions."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def square(tensor: Tensor) -> Tensor:
    """The sum of squares of a one-dimensional chunk."""
    tensor = wide(tensor)
    return torch.dot(tensor, tensor)


def total(parts: Iterable[Part]) -> float:
    """The sum of all parts, those of other processes included.

    Where tensors are sharded this is a collective: every process gives parts of the same tensors
    in the same order, and gets the same sum.
    """
    buckets: dict[tuple[object, ...], list[Part]] = {}
    for part in parts:
        buckets.setdefault((part.value.device, *part.over), []).append(part)
    return sum(_bucket(bucket) for bucket in buckets.values())


def norm(tensors: Iterable[Tensor]) -> float:
    """The Frobenius norm of all `tensors` together; 0 of none."""
    return total(_squares((tensor, chunks(flat(tensor))) for tensor in tensors)) ** 0.5


def change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """||after - before|| of all tensors together; `before` are flat copies of the local shards."""
    pairs = zip(before, after, strict=True)
    return total(_squares((new, _differences(old, flat(new))) for old, new in pairs)) ** 0.5


def _differences(before: Tensor, after: Tensor) -> Iterator[tuple[Tensor]]:
    for old, new in chunks(before, after):
        yield (wide(new) - wide(old),)


def _squares(tensors: Iterable[tuple[Tensor, Iterable[tuple[Tensor, ...]]]]) -> Iterator[Part]:
    for tensor, pieces in tensors:
        over = shards(tensor)
        for (piece,) in pieces:
            yield Part(square(piece), over=over)


def _bucket(parts: Sequence[Part]) -> float:
    values = torch.stack([part.value for part in parts])
    # Apple's GPUs have no float64.
    values = values.to(torch.float32 if values.device.type == "mps" else torch.float64)
    summed = values @ values.new_tensor([part.scale for part in parts])
    for group in parts[0].over:
        dist.all_reduce(summed, group=group)
    return float(summed)
