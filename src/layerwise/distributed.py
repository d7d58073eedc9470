"""One process or many: who am I, and what do all of us hold together."""

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def _running() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return this process's number, 0 where there is only one."""
    return dist.get_rank() if _running() else 0


def world_size() -> int:
    """Return the number of processes that work together, 1 where none were launched."""
    return dist.get_world_size() if _running() else 1


def all_gather(item: T) -> list[T]:
    """Return every process's `item`, in rank order, the same list on each of them."""
    if world_size() == 1:
        return [item]
    gathered: list[T | None] = [None] * world_size()
    dist.all_gather_object(gathered, item)
    return gathered  # type: ignore[return-value]  # every slot is filled by the collective
