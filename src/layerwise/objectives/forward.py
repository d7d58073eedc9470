"""Calling a model's forward with what it understands, and no more tokens than it reaches."""

import inspect
from collections.abc import Iterable
from typing import Any

from layerwise.data.batches import Batch
from layerwise.errors import BadInputError
from layerwise.models.parts import position_limit

__all__ = ["accepted", "refuse_too_long"]


def accepted(model: Any, **options: Any) -> dict[str, Any]:
    """Those of `options` that `model`'s forward names among its parameters."""
    names = inspect.signature(model.forward).parameters
    return {name: value for name, value in options.items() if name in names}


def refuse_too_long(model: Any, batches: Iterable[Batch]) -> None:
    """Raise where a text is longer than the model's learned positions reach.

    Raises:
        BadInputError: One is; the message says how long they may be.
    """
    limit = position_limit(model)
    longest = max((t.shape[1] for batch in batches for t in batch.inputs.values()), default=0)
    if limit is not None and longest > limit:
        msg = "texts longer than the model's positions"
        raise BadInputError(
            msg, value=longest, expected=f"at most {limit} tokens", hint=f"--max-length {limit}"
        )
