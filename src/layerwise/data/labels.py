"""A column of labels as what a head tells apart: classes, several at once, or a score."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from layerwise.data.formats import is_blank, is_list
from layerwise.data.turns import plain, unfolded
from layerwise.errors import DataError


@dataclass(frozen=True)
class Labels:
    """The labels of some rows.

    Attributes:
        each: By the number of the row, its class, or what each of several outputs, or one alone,
            is to say.
        classes: What the outputs stand for, in their order.
        said: What they are, in words.
        note: Which were taken for one.
    """

    each: Mapping[int, str | tuple[float, ...]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    said: str = ""
    note: str = ""

    def of(self, row: int) -> dict[str, Any]:
        """Return what an example of that row gets."""
        return {"label" if isinstance(self.each[row], str) else "scores": self.each[row]}


def is_missing(label: Any) -> bool:
    """Return whether a cell holds no label, or the text of a missing one; an empty list is one."""
    return (is_blank(label) and not is_list(label)) or str(label).lower() in ("nan", "<na>")


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

    def fault(row: int, what: str, expected: str) -> DataError:
        message = f"row {row} of column {column!r} {what}"
        return DataError(message, value=values[row], expected=expected)

    found = {row: plain(unfolded(value)) for row, value in values.items()}
    lists = {row: value for row, value in found.items() if is_list(value)}
    numbers = {row: n for row, value in found.items() if (n := _number(value)) is not None}
    commas = _with_comma(found)
    for row, value in found.items():
        if isinstance(value, Mapping) or (row in lists and any(map(_is_share, value))):
            what = "gives shares of classes, or names members"
            raise fault(row, what, "a class, a number, or a list of 0 and 1 or of names")
        if lists and row not in lists:
            raise fault(row, "has one label, other rows have lists of them", "one kind of labels")
        if isinstance(value, str) and ((value[:1], value[-1:]) == ("[", "]") or row in commas):
            what = "is a list, or a number with a comma, that cannot be read"
            raise fault(row, what, "a list as in JSON, such as [0, 1], or a number such as 0.5")
        if isinstance(value, float) and row not in numbers:
            raise fault(row, "has no finite label", "a number, or a name")
    if lists:
        return _together(lists, column, classes)
    if not all(number.is_integer() for number in numbers.values()):
        if words := found.keys() - numbers.keys():
            what, expected = "is no number among scores", "numbers alone, or names of classes alone"
            raise fault(min(words), what, expected)
        return Labels({row: (n,) for row, n in numbers.items()}, (column,), "scores")
    names = {row: _name(value, row, column, classes) for row, value in found.items()}
    same, note = ({}, "") if classes else _one_name_each(names.values())
    names = {row: same.get(name, name) for row, name in names.items()}
    whole = tuple(classes) or in_order(names.values())
    return Labels(names, whole, f"{len(whole)} class{'es' * (len(whole) != 1)}", note)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return `names`, each once: by value where all are numbers, else by letter."""
    each = {*names}
    are_numbers = all(not isinstance(meant(name), str) for name in each)
    return tuple(sorted(each, key=(lambda name: (meant(name), name)) if are_numbers else None))


def meant(name: str) -> float | str:
    """Return the number that `name` writes, 1 and 0 for true and false; else its letters."""
    if (plain := name.strip()).lower() in ("true", "false"):
        return int(plain.lower() == "true")
    if "_" in plain:  # Python's numbers may have them.
        return plain
    with suppress(ValueError):
        return int(plain)  # Exactly, however long.
    number = _number(plain)
    return plain if number is None else number


def _one_name_each(names: Iterable[str]) -> tuple[dict[str, str], str]:
    """Return the shortest of the `names` that mean one class, by each; and which those are."""
    alike: dict[float | str, set[str]] = {}
    for name in names:
        alike.setdefault(meant(name), set()).add(name)
    groups = [sorted(each, key=lambda name: (len(name), name)) for each in alike.values()]
    told = "; ".join(sorted(" and ".join(map(repr, each)) for each in groups if len(each) > 1))
    same = {name: each[0].strip() for each in groups for name in each}
    return same, f"labels that are one: {told}" if told else ""


def _with_comma(found: Mapping[int, Any]) -> set[int]:
    """Return the rows of numbers with a comma, where all labels are numbers; it may mean much."""
    are_numbers = all(re.fullmatch(r"[+-]?\d+([.,]\d+)*", str(v).strip()) for v in found.values())
    return {row for row, v in found.items() if are_numbers and isinstance(v, str) and "," in v}


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
    sizes = {len(value) for value in values.values()}
    are_marks = all(member in (0, 1) for value in values.values() for member in value)
    note = ""
    repeats = any(len({*map(str, value)}) < len(value) for value in values.values())
    size = max(sizes)
    # Numbers of classes that have names are marks only where one stands twice.
    if are_marks and (repeats or (len(sizes) == 1 and not classes)) and size > 1:
        names = tuple(classes if len(classes) == size else map(str, range(size)))
        if sizes != {len(names)}:
            what = f"column {column!r} marks {', '.join(map(str, sorted(sizes)))} classes"
            raise DataError(what, value=", ".join(classes), expected="as many marks in every row")
        scores = {row: tuple(map(float, value)) for row, value in values.items()}
    else:
        sets = {row: {_name(m, row, column, classes) for m in v} for row, v in values.items()}
        same, note = ({}, "") if classes else _one_name_each(set().union(*sets.values()))
        sets = {row: {same.get(name, name) for name in held} for row, held in sets.items()}
        names = tuple(classes) or in_order(set().union(*sets.values()))
        scores = {row: tuple(float(name in held) for name in names) for row, held in sets.items()}
    if len(names) < 2:
        what = f"column {column!r} has lists of one class alone"
        raise DataError(what, value=", ".join(names), expected="two classes or more")
    return Labels(scores, names, f"{len(names)} labels that may hold together", note)
