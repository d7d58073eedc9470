"""A column of labels as what a head tells apart: classes, several at once, or a score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from layerwise.data.formats import is_list
from layerwise.data.turns import plain, unfolded
from layerwise.errors import DataError


@dataclass(frozen=True)
class Labels:
    """The labels of some rows.

    Attributes:
        each: By the number of the row, its class, or what each of several outputs, or one alone,
            is to say.
        classes: What the outputs stand for, in their order; empty where the data does not say.
        said: What they are, in words; empty for classes.
    """

    each: Mapping[int, str | tuple[float, ...]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    said: str = ""

    def of(self, row: int) -> dict[str, Any]:
        """Return what an example of that row gets."""
        return {"scores" if self.said else "label": self.each[row]}


def read_labels(values: Mapping[int, Any], *, column: str, classes: Sequence[str] = ()) -> Labels:
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
    for row, value in values.items():
        found = plain(unfolded(value))
        if isinstance(found, Mapping) or (is_list(found) and any(map(_is_share, found))):
            what = f"row {row} of column {column!r} gives shares of classes, or names members"
            expected = "a class, a number, or a list of 0 and 1 or of names"
            raise DataError(what, value=value, expected=expected)
    lists = {row: plain(found) for row, v in values.items() if is_list(found := unfolded(v))}
    odd = [row for row in values if row not in lists] if lists else []
    if odd:
        what = f"row {odd[0]} of column {column!r} has one label, other rows have lists of them"
        raise DataError(what, value=values[odd[0]], expected="one kind of labels")
    if lists:
        return _together(lists, column, classes)
    endless = [
        row for row, value in values.items() if isinstance(value, float) and math.isinf(value)
    ]
    if endless:
        what = f"row {endless[0]} of column {column!r} has no finite label"
        raise DataError(what, value=values[endless[0]], expected="a number, or a name")
    numbers = {row: number for row, v in values.items() if (number := _number(v)) is not None}
    if len(numbers) == len(values) and not all(n.is_integer() for n in numbers.values()):
        return Labels({row: (n,) for row, n in numbers.items()}, (column,), "scores")
    names = {row: _name(value, row, column, classes) for row, value in values.items()}
    return Labels(names, tuple(classes))


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


def _name(value: Any, row: int, column: str, classes: Sequence[str]) -> str:
    """Return the name of a class that is told by name or by number."""
    number = None if isinstance(value, str) else _number(value)
    if number is None or not number.is_integer():
        return str(value)
    if not classes:
        return str(int(value))
    if not 0 <= int(value) < len(classes):
        what = f"row {row} of column {column!r} has a number that is no class"
        raise DataError(what, value=value, expected=f"0 to {len(classes) - 1}")
    return classes[int(value)]


def _together(values: Mapping[int, Any], column: str, classes: Sequence[str]) -> Labels:
    """Return labels that may hold together."""
    size, *others = {len(value) for value in values.values()}
    members = [member for value in values.values() for member in value]
    repeats = any(len({*map(str, value)}) < len(value) for value in values.values())
    if others and repeats and all(member in (0, 1) for member in members):
        what = f"column {column!r} marks {', '.join(map(str, sorted({size, *others})))} classes"
        raise DataError(what, expected="as many marks in every row")
    if not others and size > 1 and all(member in (0, 1) for member in members):
        names = tuple(classes or map(str, range(size)))
        scores = {row: tuple(map(float, value)) for row, value in values.items()}
        if len(names) != size:
            what = f"column {column!r} marks {size} classes"
            raise DataError(what, value=", ".join(names), expected="as many names")
    else:
        sets = {row: {_name(m, row, column, classes) for m in v} for row, v in values.items()}
        seen = set().union(*sets.values())
        are_numbers = all(name.removeprefix("-").isdecimal() for name in seen)
        names = tuple(classes or sorted(seen, key=int if are_numbers else None))
        scores = {row: tuple(float(name in held) for name in names) for row, held in sets.items()}
    if len(names) < 2:
        what = f"column {column!r} has lists of one class alone"
        raise DataError(what, value=", ".join(names), expected="two classes or more")
    return Labels(scores, names, f"{len(names)} labels that may hold together")
