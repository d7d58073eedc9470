"""Randomness that depends on what it is for, never on what ran before it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for `purpose`, the same on every machine and in every process.

    >>> derive(0, "lora_A", "layers.0.q_proj") == derive(0, "lora_A", "layers.0.q_proj")
    True
    >>> derive(0, "a") == derive(0, "b")
    False
    """
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for `purpose` alone."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def numpy_generator(seed: int, *purpose: object) -> np.random.Generator:
    """A NumPy generator for `purpose` alone."""
    return np.random.default_rng(derive(seed, *purpose))


def draw(total: int, count: int, seed: int, *purpose: object) -> list[int]:
    """Return `count` numbers below `total`, ascending; more of one seed contain its fewer."""
    return sorted(numpy_generator(seed, *purpose).permutation(total)[:count].tolist())


@contextmanager
def rng_untouched(seed: int) -> Iterator[None]:
    """Inside, torch's global generators start at `seed`; after, they are as they were before."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
