"""What depends on the version of torch."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

try:
    from torch.distributed.fsdp import FSDPModule
except ImportError:  # Before 2.6 it was not public.
    from torch.distributed._composable.fsdp import FSDPModule  # type: ignore[attr-defined]  # as it was

__all__ = ["FSDPModule", "eagerly"]


def eagerly() -> AbstractContextManager[Any]:
    """Return what lets compiled modules run as they were written inside; before 2.6, nothing did.

    Then they are compiled once more for what is done inside.
    """
    stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else stance("force_eager")
