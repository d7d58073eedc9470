"""What a record can do that lies further along the way of the data than the record itself.

A card is made before placements and reports exist, and yet `card.place("balanced")` and
`print(card)` are how people use one. Imports point one way only, so such a method calls its verb
here by name; the package's front (`layerwise/__init__.py`, which runs before any module of it)
binds each verb to the function of `layerwise.api` that it stands for, imported when first called.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["bind", "call"]

_bound: dict[str, Callable[..., Any]] = {}


def bind(verb: str, function: Callable[..., Any]) -> None:
    """Make `function` what `verb` does from now on."""
    _bound[verb] = function


def call(verb: str, *args: Any, **options: Any) -> Any:
    """Return what the function bound to `verb` returns."""
    return _bound[verb](*args, **options)
