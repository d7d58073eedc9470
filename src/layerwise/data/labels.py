"""A column of labels as what a head tells apart: classes, several at once, or a score."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.data.formats import is_list
from layerwise.data.turns import plain
from layerwise.errors import DataError


@dataclass(frozen=True)
class Labels:
    """The labels of some rows.

    Attributes:
        names: The class of each row; empty where they are not classes.
        scores: What each of several outputs, or one alone, is to say; empty for classes.
        classes: What the outputs stand for, in their order; empty where the data does not say.
        said: What they are, in words; empty for classes.
    """

    names: Sequence[str] = ()
    scores: Sequence[tuple[float, ...]] = ()
    classes: tuple[str, ...] = ()
    said: str = ""


def read_labels(
    values: Mapping[int, Any], *, column: str, classes: Sequence[str] | None = None
) -> Labels:
    """Return what `values`, labels by the number of their row, say; decided over all of them.

    Lists say which classes hold together: 0 or 1 for each, or the names of those that do. Numbers
    of which one is no whole number are scores. All else are classes.

    Args:
        values: Labels, none of them missing.
        column: What they are called.
        classes: The names of the classes, by number, where the data brings them.

    Raises:
        DataError: They are of several kinds, or one is no number of a class.
    """
    found = {number: _unfolded(value) for number, value in values.items()}
    for number, value in found.items():
        if isinstance(value, Mapping) or (is_list(value) and any(map(_is_share, plain(value)))):
            what = f"row {number} of column {column!r} gives shares of classes, or names members"
            expected = "a class, a number, or a list of 0 and 1 or of names"
            raise DataError(what=what, value=value, expected=expected)
    lists = {number: is_list(value) for number, value in found.items()}
    if any(lists.values()):
        odd = next((number for number, has_members in lists.items() if not has_members), None)
        if odd is not None:
            what = f"row {odd} of column {column!r} has one label, other rows have lists of them"
            raise DataError(what=what, value=found[odd], expected="one kind of labels")
        return _together({n: plain(v) for n, v in found.items()}, column, classes)
    endless = [n for n, value in found.items() if isinstance(value, float) and math.isinf(value)]
    if endless:
        what = f"row {endless[0]} of column {column!r} has no finite label"
        raise DataError(what=what, value=found[endless[0]], expected="a number, or a name")
    numbers = [_number(value) for value in found.values()]
    known = [number for number in numbers if number is not None]
    if len(known) == len(numbers) and not all(number.is_integer() for number in known):
        return Labels(scores=[(n,) for n in known], classes=(column,), said="scores")
    named = [_name(value, number, column, classes) for number, value in found.items()]
    return Labels(names=named, classes=tuple(classes or ()))


def _unfolded(value: Any) -> Any:
    """Return the list that a string writes as JSON."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _is_share(value: Any) -> bool:
    return isinstance(value, Mapping | list) or (isinstance(value, float) and value % 1 != 0)


def _number(value: Any) -> float | None:
    """Return a finite number, also one that is written out; None for all else."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _name(value: Any, row: int, column: str, classes: Sequence[str] | None) -> str:
    """Return the name of a class that is told by name or by number."""
    number = _number(value)
    is_whole = not isinstance(value, str) and number is not None and number.is_integer()
    if not is_whole:
        return str(value)
    if not classes:
        return str(int(value))
    if not 0 <= int(value) < len(classes):
        what = f"row {row} of column {column!r} has a number that is no class"
        raise DataError(what=what, value=value, expected=f"0 to {len(classes) - 1}")
    return classes[int(value)]


def _together(values: Mapping[int, Any], column: str, classes: Sequence[str] | None) -> Labels:
    """Return labels that may hold together."""
    sizes = {len(value) for value in values.values()}
    members = [member for value in values.values() for member in value]
    if len(sizes) == 1 and max(sizes) > 1 and all(member in (0, 1) for member in members):
        names = tuple(classes or map(str, range(max(sizes))))
        scores = [tuple(map(float, value)) for value in values.values()]
        if len(names) != max(sizes):
            what = f"column {column!r} marks {max(sizes)} classes"
            raise DataError(what=what, value=", ".join(names), expected="as many names")
    else:
        sets = [{_name(m, row, column, classes) for m in v} for row, v in values.items()]
        names = tuple(classes or _ordered(set().union(*sets)))
        scores = [tuple(float(name in held) for name in names) for held in sets]
    if len(names) < 2:
        what = f"column {column!r} has lists of one class alone"
        raise DataError(what=what, value=", ".join(names), expected="two classes or more")
    return Labels(scores=scores, classes=names, said=f"{len(names)} labels that may hold together")


def _ordered(names: set[str]) -> list[str]:
    are_numbers = all(name.removeprefix("-").isdecimal() for name in names)
    return sorted(names, key=int if are_numbers else None)
