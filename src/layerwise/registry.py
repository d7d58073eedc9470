"""A named set of members, looked up by name with a helpful error."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from layerwise.errors import UnknownNameError

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Members of one kind by name, in the order in which they were added.

    Args:
        kind: What a member is called in error messages (``"policy"``).

    >>> policies = Registry[int]("policy")
    >>> policies.add("uniform", 1)
    1
    >>> policies["uniform"], list(policies)
    (1, ['uniform'])
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._members: dict[str, T] = {}

    def add(self, name: str, member: T) -> T:
        """`member`, now known as `name`.

        Raises:
            ValueError: `name` is taken; two members of one name would hide each other.
        """
        if name in self._members:
            message = f"{self.kind} {name!r} is registered twice"
            raise ValueError(message)
        self._members[name] = member
        return member

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that adds what it decorates as `name`."""
        return lambda member: self.add(name, member)

    def __getitem__(self, name: str) -> T:
        """The member called `name`.

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
        """Each (name, member), in registration order."""
        return iter(self._members.items())
