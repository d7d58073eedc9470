"""What depends on the version of torch, and on what a device can compute with."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from layerwise.shapes import Tensor

try:
    from torch.distributed.fsdp import FSDPModule
except ImportError:  # Before 2.6 it was not public.
    from torch.distributed._composable.fsdp import FSDPModule  # type: ignore[attr-defined]  # as it was

__all__ = ["FSDPModule", "arrays_of_any_numpy", "eagerly", "widened", "widest"]


def eagerly() -> AbstractContextManager[Any]:
    """Return what lets compiled modules run as they were written inside; before 2.6, nothing did.

    Then they are compiled once more for what is done inside.
    """
    stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else stance("force_eager")


def arrays_of_any_numpy() -> AbstractContextManager[Any]:
    """Return what lets checkpoints of numpy 1 be read under 2, and of 2 under 1."""
    rebuild: Any = np.empty(0).__reduce__()[0]  # It moved from numpy.core to numpy._core.
    names = [f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")]
    return torch.serialization.safe_globals([(rebuild, name) for name in names])


def widest(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device that has none: Apple's GPUs."""
    return torch.float32 if device.type == "mps" else torch.float64


def widened(tensor: Tensor) -> Tensor:
    """Return `tensor` in the widest precision of its device."""
    return tensor.to(widest(tensor.device))
