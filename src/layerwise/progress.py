"""How long work reports how far it is, without knowing who listens."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class Progress(Protocol):
    """Passes items on under a title, and reports as they are consumed."""

    def __call__(self, items: Iterable[T], title: str, total: int) -> Iterator[T]:
        """`items` as they are; `total` says how many there will be."""
        ...


def silent(items: Iterable[T], title: str, total: int) -> Iterator[T]:  # noqa: ARG001
    """`items` as they are: the library's default, which prints nothing."""
    return iter(items)
