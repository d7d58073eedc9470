"""A named set of members, looked up by name with a helpful error."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Never, TypeVar, cast

from layerwise.errors import UnknownNameError

T = TypeVar("T")


class Registry(dict[str, T]):
    """Members of one kind by name, in the order in which they were added.

    A name that no member has is an `UnknownNameError`.

    Args:
        kind: What a member is called in error messages (``"policy"``).

    >>> goals = Registry[float]("goal")
    >>> goals.add(0.5, name="cost")
    0.5
    >>> goals["cost"], list(goals)
    (0.5, ['cost'])
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def __missing__(self, name: str) -> Never:
        raise UnknownNameError(self.kind, value=name, known=self)

    def add(self, member: T, *, name: str | None = None) -> T:
        """Return `member`, now known as `name`, or by its own name where None is given.

        Raises:
            ValueError: The name is taken; two members of one name would hide each other.
        """
        key = cast("Any", member).name if name is None else name
        if key in self:
            message = f"{self.kind} {key!r} is registered twice"
            raise ValueError(message)
        self[key] = member
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
        del self[name]
        return member


@dataclass(frozen=True)
class LaterFunction:
    """A function that is imported when it is first called.

    So a row can be read, for a help text say, without the packages that its function needs.

    Attributes:
        module: Where it is.
        name: Its name there.
    """

    module: str
    name: str

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Return what it gives."""
        return getattr(import_module(self.module), self.name)(*args, **options)


later = LaterFunction
