"""Calling a model's forward with what it understands."""

import inspect
from typing import Any

__all__ = ["accepted"]


def accepted(model: Any, **options: Any) -> dict[str, Any]:
    """Those of `options` that `model`'s forward names among its parameters."""
    names = inspect.signature(model.forward).parameters
    return {name: value for name, value in options.items() if name in names}
