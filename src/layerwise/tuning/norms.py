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

from layerwise.compat.torch import widened

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
    """Get what this process holds of `tensor`, sharing its memory: a sharded tensor's own shard."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def whole(tensor: Tensor) -> Tensor:
    """Return `tensor` of all processes together, detached; a collective where it is sharded."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def flat(tensor: Tensor) -> Tensor:
    """Return what this process holds of `tensor`, in one dimension: a view where it can be."""
    return local(tensor).reshape(-1)


def shards(tensor: Tensor) -> Shards:
    """Return the process groups that `tensor` is divided among; none where it is whole here."""
    if not isinstance(tensor, DTensor):
        return ()
    divided = [i for i, p in enumerate(tensor.placements) if not p.is_replicate()]
    return tuple(tensor.device_mesh.get_group(i) for i in divided)


def chunk_size(tensor: Tensor) -> int:
    """Numbers to work on at a time: few enough for a processor's cache, or to keep a GPU busy."""
    return 1 << (18 if tensor.device.type == "cpu" else 24)


def chunks(*tensors: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
    """Equally long tensors, `size` of their rows at a time; one empty chunk of empty tensors."""
    if len(tensors[0]) <= size:
        return iter([tensors])
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def wide(tensor: Tensor) -> Tensor:
    """Return `tensor` in a type that squares can be summed in: float32 for the half precisions."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def total(parts: Iterable[Part]) -> float:
    """Return the sum of all parts, those of other processes included.

    Where tensors are sharded this is a collective: every process gives parts of the same tensors
    in the same order, and gets the same sum.
    """
    buckets: dict[tuple[object, ...], list[Part]] = {}
    for part in parts:
        buckets.setdefault((part.value.device, *part.over), []).append(part)
    found = 0.0
    for bucket in buckets.values():
        values = torch.stack([part.value for part in bucket])
        values = widened(values)
        summed = values @ values.new_tensor([part.scale for part in bucket])
        for group in bucket[0].over:
            dist.all_reduce(summed, group=group)
        found += float(summed)
    return found


def norm(tensors: Iterable[Tensor]) -> float:
    """Return the Frobenius norm of all `tensors` together; 0 of none."""
    return total(part for tensor in tensors for part in squares(tensor)) ** 0.5


def squares(tensor: Tensor) -> Iterator[Part]:
    """||tensor||^2, chunk by chunk."""
    own, over = flat(tensor), shards(tensor)
    for (chunk,) in chunks(own, size=chunk_size(own)):
        yield _square(chunk, over)


class Workspace:
    """Memory that is kept and written over: asking for it anew costs more than filling it."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}

    def __reduce__(self) -> tuple[type["Workspace"], tuple[()]]:
        return Workspace, ()  # What is in it is of no use to a copy.

    def take(self, purpose: str, size: int, like: Tensor) -> Tensor:
        """Give `size` numbers to write in, of the type of `like`: the same for the same purpose."""
        key = (purpose, like.device, like.dtype)
        if key not in self._made or len(self._made[key]) < size:
            self._made.pop(key, None)  # First give back what is too small.
            self._made[key] = like.new_empty(size)
        return self._made[key][:size]

    def copies(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Part]]:
        """Flat copies of this process's shares, good until the next call, and their squares."""
        shares = [flat(tensor) for tensor in tensors]
        kinds = {_kind(own): own for own in shares}
        rooms = {
            kind: self.take("copies", sum(len(x) for x in shares if _kind(x) == kind), own)
            for kind, own in kinds.items()
        }
        made, parts = [], []
        for tensor, own in zip(tensors, shares, strict=True):
            room = rooms[_kind(own)]
            copy, rooms[_kind(own)] = room[: len(own)], room[len(own) :]
            for new, old in chunks(copy, own, size=chunk_size(own)):
                parts.append(_square(new.copy_(old), shards(tensor)))
            made.append(copy)
        return made, parts

    def change(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
        """||after - before|| of all tensors together; `before` are flat copies of the shares."""
        pairs = zip(before, after, strict=True)
        return total(part for old, new in pairs for part in self._differences(old, new)) ** 0.5

    def _differences(self, before: Tensor, after: Tensor) -> Iterator[Part]:
        own, over, size = flat(after), shards(after), chunk_size(before)
        for pair in chunks(before, own, size=size):
            old, new = map(wide, pair)
            yield _square(torch.sub(new, old, out=self.take("change", len(old), old)), over)


def _kind(tensor: Tensor) -> tuple[torch.device, torch.dtype]:
    return tensor.device, tensor.dtype


def _square(chunk: Tensor, over: Shards) -> Part:
    chunk = wide(chunk)
    return Part(torch.dot(chunk, chunk), over=over)
