"""An option as it is declared: type, default, bounds and help, in a `TypedDict` of options.

    class Training(TypedDict, total=False):
        steps: Annotated[int, Option("Optimizer steps.", 100, least=1)]

A group of options is such a class, groups are composed by inheritance, and the group of a command
is what its function takes as ``**options: Unpack[Tune]`` (PEP 692). All else is read off it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from functools import cache
from typing import Any, ForwardRef, TypeVar, get_args

C = TypeVar("C")


@dataclass(frozen=True)
class Option:
    """All that is to be said of an option; its name and type are read off the group.

    Attributes:
        help: What it is for, in a sentence; ``{names}`` in it stands for the members of a registry.
        default: Its value where none is given.
        unset: What is done where it is None, as help shows it.
        least: The smallest number allowed.
        above: A number that it must exceed.
        most: The largest number allowed.
        below: A number that it must stay under.
        text: Its type in a file and on the command line, where Python takes objects too.
        metavar: What stands for its value in help; follows from its type where empty.
        flags: Its spellings on the command line; ``--its-name`` where empty.
        repeat: Whether it is given again for each further member, rather than ``a,b,c``.
        once: Whether each member may be given once alone.
        call_only: Whether only the command line and a Python call may say it, never a file.
        name: As Python spells it.
        hint: The type of the Python argument.
    """

    help: str
    default: Any = None
    _: KW_ONLY
    unset: str = ""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    text: Any = None
    metavar: str = ""
    flags: tuple[str, ...] = ()
    repeat: bool = False
    once: bool = False
    call_only: bool = False
    name: str = ""
    hint: Any = None

    @property
    def kind(self) -> Any:
        """Its type in a file and on the command line."""
        return self.text or self.hint

    def told(self, names: Iterable[str] = ()) -> str:
        """Return what it is for, with the `names` that it may take."""
        told = ", ".join(names)
        return self.help.replace("{names}", f": {told}" if told else "")

    @property
    def key(self) -> str:
        """Its key in a file: the long spelling without dashes in front."""
        return max(self.flags, key=len).lstrip("-")


def defaults(**values: Any) -> Callable[[C], C]:
    """Return a decorator of a group that gives options of it these defaults."""

    def put(group: C) -> C:
        group.__defaults__ = values  # type: ignore[attr-defined]
        return group

    return put


@cache
def declared(group: type) -> Mapping[str, Option]:
    """Return the options of `group` by name, inherited ones first, with all that they leave out."""
    own = getattr(group, "__defaults__", {})
    found = {}
    for name, annotation in group.__annotations__.items():
        hint, option = get_args(annotation)
        found[name] = replace(
            option,
            name=name,
            hint=hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint,
            default=own.get(name, option.default),
            flags=option.flags or (f"--{name.replace('_', '-')}",),
        )
    return found


def pick(group: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `options` that `group` has, which may be a record of options too."""
    return {name: options[name] for name in group.__annotations__ if name in options}
