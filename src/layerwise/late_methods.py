"""Methods of records that lie further along the way of the data than the records themselves.

A card is made before placements and reports exist, and yet `card.place("balanced")` and
`print(card)` are how people use one. Imports point one way only, so such a method calls its
function here by name; the package's front (`layerwise/__init__.py`, which runs before any module of
it) binds each name to a function of a later stage, imported when first called.
"""

from collections.abc import Callable
from typing import Any

_bound: dict[str, Callable[..., Any]] = {}


def bind(name: str, function: Callable[..., Any]) -> None:
    """Make `function` what the method `name` calls from now on."""
    _bound[name] = function


def call(name: str, *args: Any, **options: Any) -> Any:
    """Return what the function bound to `name` returns."""
    return _bound[name](*args, **options)
