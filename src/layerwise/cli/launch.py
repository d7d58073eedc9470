"""One process or many: what `torchrun` started works together, and one of them speaks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def launched() -> int:
    """Return the number of processes that a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Return whether this process is the one that prints and writes."""
    return launched() == 1 or os.environ.get("RANK", "0") == "0"


@contextmanager
def together(device: str, *, several: bool = True) -> Iterator[str]:
    """Inside, the processes that were launched are one group, if `several` share the work.

    Yield this one's device: where `device` is ``cuda``, its own card.
    """
    if launched() == 1 or not several:
        yield device
        return
    import torch
    import torch.distributed as dist

    local = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield local if cuda else device
    finally:
        dist.destroy_process_group()
