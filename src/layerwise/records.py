"""Frozen records to plain JSON values and back; an absent value is an absent key, never null."""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import cattrs
import numpy as np
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from layerwise import verbs
from layerwise.errors import SchemaError
from layerwise.files import canonical_json, read_json, whole_lines

__all__ = [
    "Loadable",
    "Saved",
    "Shown",
    "from_plain",
    "other_numbers",
    "read_lines",
    "read_record",
    "record_file",
    "to_plain",
]

T = TypeVar("T")
L = TypeVar("L", bound="Loadable")

_converter = cattrs.Converter(forbid_extra_keys=False)
# Arrays are saved beside a record, never in it; the converter must know the type all the same.
_converter.register_structure_hook(np.ndarray, lambda value, _type: np.asarray(value))


_OTHER = "other numbers"


def other_numbers() -> Any:
    """Return the field of a record that holds the numbers that no field is named after.

    In a file they stand beside the fields, each under its own key.
    """
    return field(default_factory=dict, metadata={_OTHER: True})


def _other(record_type: Any) -> str:
    """Return the name of that field; empty where a record has none, or it is no record."""
    named = fields(record_type) if is_dataclass(record_type) else ()
    return next((f.name for f in named if _OTHER in f.metadata), "")


@_converter.register_unstructure_hook_factory(lambda kind: bool(_other(kind)))
def _writer(record_type: type[Any]) -> Callable[[Any], dict[str, Any]]:
    """Return what writes a record that has other numbers."""
    write, other = make_dict_unstructure_fn(record_type, _converter), _other(record_type)

    def flat(record: Any) -> dict[str, Any]:
        plain = write(record)
        return {**plain.pop(other), **plain}

    return flat


@_converter.register_structure_hook_factory(is_dataclass)
def _reader(record_type: type[Any]) -> Callable[[Any, Any], Any]:
    """Return what reads a record; a key that is absent is None where the field may be that."""
    read = make_dict_structure_fn(record_type, _converter)
    absent = dict.fromkeys(
        f.name
        for f in fields(record_type)
        if f.default is MISSING and type(None) in get_args(f.type)
    )
    other, known = _other(record_type), {f.name for f in fields(record_type)}

    def structure(plain: Any, _: Any) -> Any:
        if other:
            left = {k: v for k, v in plain.items() if k not in known and _is_number(v)}
            plain = {**plain, other: left}
        return read({**absent, **plain}, record_type)

    return structure


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def to_plain(record: object) -> Any:
    """`record` as dicts, lists, strings, numbers, booleans; fields that are None are left out."""
    return _without_none(_converter.unstructure(record))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value


def from_plain(plain: Any, record_type: type[T], *, source: object) -> T:
    """A `record_type` from the values that `to_plain` gave.

    Raises:
        SchemaError: A key is missing or a value is of another type; `source` names the file.
    """
    try:
        return _converter.structure(plain, record_type)
    except (BaseValidationError, KeyError, TypeError, ValueError) as error:
        faults = (
            cattrs.transform_error(error) if isinstance(error, BaseValidationError) else [error]
        )
        msg = f"malformed record ({faults[0]})"
        raise SchemaError(msg, value=source, expected=f"a {record_type.__name__}") from error


def read_record(path: Path | str, record_type: type[T], *, name: str, schema: str) -> T:
    """The `record_type` in `path`: its file, or the folder that holds it under `name`.

    Raises:
        SchemaError: No such record is there, or it is malformed or of another schema.
    """
    file = record_file(path, name=name)
    return from_plain(read_json(file, schema=schema), record_type, source=file)


def read_lines(path: Path, record_type: type[T], *, schema: str, what: str) -> tuple[T, ...]:
    """The records of `path`, one a line, in their order; none where there is no such file.

    An unfinished last line, of a process that was killed, is left out. `what` is a record's name in
    an error.

    Raises:
        SchemaError: A line holds no such record, or one of another schema; names the line.
    """
    return tuple(
        _from_line(line, record_type, schema=schema, what=what, where=f"{path}, line {i}")
        for i, line in enumerate(whole_lines(path), 1)
    )


def _from_line(line: bytes, record_type: type[T], *, schema: str, what: str, where: str) -> T:
    try:
        plain = json.loads(line)
    except ValueError as error:
        msg = f"unreadable {what}"
        raise SchemaError(msg, value=where, expected="a JSON object a line") from error
    if not isinstance(plain, dict) or plain.get("schema") != schema:
        msg = f"line that is no {what}"
        raise SchemaError(msg, value=where, expected=schema)
    return from_plain(plain, record_type, source=where)


def record_file(path: Path | str, *, name: str) -> Path:
    """The file of a record that is named by itself, or by the folder that holds it."""
    path = Path(path)
    return path / name if path.is_dir() else path


class Saved:
    """What a frozen record has that goes into a file as JSON.

    Attributes:
        SCHEMA: What the file says that it holds, with its version.
    """

    SCHEMA: ClassVar[str]

    def to_plain(self) -> dict[str, Any]:
        """The record as JSON values, its schema first."""
        return {"schema": self.SCHEMA, **to_plain(self)}

    def to_json(self) -> bytes:
        """The content of the record's file; the same record is the same bytes."""
        return canonical_json(self.to_plain())


class Loadable:
    """What a frozen record has that is read from a file of its own.

    Attributes:
        SCHEMA: What the file says that it holds, with its version.
        FILE: The file's name in a folder.
    """

    SCHEMA: ClassVar[str]
    FILE: ClassVar[str]

    @classmethod
    def load(cls: type[L], path: Path | str) -> L:
        """The record in `path`: its file, or the folder that holds it under `FILE`.

        Raises:
            SchemaError: None is there, or it is malformed or of another schema.
        """
        return read_record(path, cls, name=cls.FILE, schema=cls.SCHEMA)


class Shown:
    """What a record has that says what it holds: `print` shows it, a notebook draws it.

    Attributes:
        DOCUMENT: The module of `layerwise.report.documents` that says so.
    """

    DOCUMENT: ClassVar[str]

    def __str__(self) -> str:
        """The record as a terminal shows it."""
        return str(verbs.call("text", self))

    def _repr_html_(self) -> str:
        """The record's report, for a notebook to show."""
        return str(verbs.call("notebook", self))
