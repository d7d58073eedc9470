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

__all__ = [
    "Part",
    "Room",
    "Shards",
    "change",
    "chunk_size",
    "chunks",
    "flat",
    "local",
    "norm",
    "shards",
    "squares",
    "total",
    "wide",
]

Shards = tuple[dist.ProcessGroup, ...]


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
    over: Shards = ()


def local(tensor: Tensor) -> Tensor:
    """What this process holds of `tensor`, sharing its memory: a sharded tensor's own shard."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def flat(tensor: Tensor) -> Tensor:
    """`local(tensor)` in one dimension; a view, except of a tensor with gaps or turned strides."""
    return local(tensor).reshape(-1)


def shards(tensor: Tensor) -> Shards:
    """The process groups that `tensor` is divided among; none where this process has all of it."""
    if not isinstance(tensor, DTensor):
        return ()
    divided = [i for i, p in enumerate(tensor.placements) if not p.is_replicate()]
    return tuple(tensor.device_mesh.get_group(i) for i in divided)


def chunk_size(tensor: Tensor) -> int:
    """Numbers to work on at a time: few enough for a processor's cache, or to keep a GPU busy."""
    return 1 << (19 if tensor.device.type == "cpu" else 24)


def chunks(*tensors: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
    """Equally long tensors, `size` of their rows at a time; one empty chunk of empty tensors."""
    if len(tensors[0]) <= size:
        return iter([tensors])
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def wide(tensor: Tensor) -> Tensor:
    """`tensor` in a type that squares can be summed in: float32 for the half precisions."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


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
    return total(part for tensor in tensors for part in squares(tensor)) ** 0.5


def squares(tensor: Tensor) -> Iterator[Part]:
    """||tensor||^2, chunk by chunk."""
    own, over = flat(tensor), shards(tensor)
    for (chunk,) in chunks(own, size=chunk_size(own)):
        yield _square(chunk, over)


class Room:
    """Memory for flat copies, kept and written over: fresh memory costs more than copying."""

    def __init__(self) -> None:
        self._made: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def __reduce__(self) -> tuple[type["Room"], tuple[()]]:
        return Room, ()  # What is in it is of no use to a copy.

    def copies(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Part]]:
        """Flat copies of this process's shares, good until the next call, and their squares."""
        shares = [flat(tensor) for tensor in tensors]
        rooms = self._rooms(shares)
        made, parts = [], []
        for tensor, own in zip(tensors, shares, strict=True):
            key = (own.device, own.dtype)
            copy, rooms[key] = rooms[key][: len(own)], rooms[key][len(own) :]
            for new, old in chunks(copy, own, size=chunk_size(own)):
                parts.append(_square(new.copy_(old), shards(tensor)))
            made.append(copy)
        return made, parts

    def _rooms(self, shares: Sequence[Tensor]) -> dict[tuple[torch.device, torch.dtype], Tensor]:
        sizes: dict[tuple[torch.device, torch.dtype], int] = {}
        for own in shares:
            key = (own.device, own.dtype)
            sizes[key] = sizes.get(key, 0) + len(own)
        for (device, dtype), size in sizes.items():
            if len(self._made.get((device, dtype), ())) < size:
                self._made.pop((device, dtype), None)  # First free what is too small.
                self._made[device, dtype] = torch.empty(size, device=device, dtype=dtype)
        return {key: self._made[key] for key in sizes}


def change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """||after - before|| of all tensors together; `before` are flat copies of the local shards."""
    pairs = zip(before, after, strict=True)
    return total(part for old, new in pairs for part in _differences(old, new)) ** 0.5


def _differences(before: Tensor, after: Tensor) -> Iterator[Part]:
    own, over, size = flat(after), shards(after), chunk_size(before)
    buffer = wide(before[:size]).clone()
    for old, new in chunks(before, own, size=size):
        yield _square(torch.sub(wide(new), wide(old), out=buffer[: len(old)]), over)


def _square(chunk: Tensor, over: Shards) -> Part:
    chunk = wide(chunk)
    return Part(torch.dot(chunk, chunk), over=over)


def _bucket(parts: Sequence[Part]) -> float:
    values = torch.stack([part.value for part in parts])
    # Apple's GPUs have no float64.
    values = values.to(torch.float32 if values.device.type == "mps" else torch.float64)
    summed = values @ values.new_tensor([part.scale for part in parts])
    for group in parts[0].over:
        dist.all_reduce(summed, group=group)
    return float(summed)
