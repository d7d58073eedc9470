"""A named set of members, looked up by name with a helpful error."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from layerwise.errors import UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Members of one kind by name, in the order in which they were added.

    Args:
        kind: What a member is called in error messages (``"policy"``).

    >>> goals = Registry[float]("goal")
    >>> goals.add(0.5, name="cost")
    0.5
    >>> goals["cost"], list(goals)
    (0.5, ['cost'])
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._members: dict[str, T] = {}

    def add(self, member: T, *, name: str | None = None) -> T:
        """Return `member`, now known as `name`, or by its own name where None is given.

        Raises:
            ValueError: The name is taken; two members of one name would hide each other.
        """
        key = cast("Any", member).name if name is None else name
        if key in self._members:
            message = f"{self.kind} {key!r} is registered twice"
            raise ValueError(message)
        self._members[key] = member
        return member

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds what it decorates as `name`."""
        return lambda member: self.add(member, name=name)

    def remove(self, name: str) -> T:
        """Return the member called `name`, which is no longer known.

        Raises:
            UnknownNameError: No member has that name.
        """
        member = self[name]
        del self._members[name]
        return member

    def __getitem__(self, name: str) -> T:
        """Return the member called `name`.

        Raises:
            UnknownNameError: No member has that name.
        """
        if name not in self._members:
            raise UnknownNameError(self.kind, value=name, known=self._members)
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __len__(self) -> int:
        return len(self._members)

    def items(self) -> Iterator[tuple[str, T]]:
        """Return each (name, member), in registration order."""
        return iter(self._members.items())

    def values(self) -> Iterator[T]:
        """Return each member, in registration order."""
        return iter(self._members.values())


def later(module: str, name: str) -> Callable[..., Any]:
    """Return the function `name` of `module`, which is imported when it is first called.

    So a row can be read, for a help text say, without the packages that its function needs.
    """

    def call(*args: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*args, **options)

    return call
