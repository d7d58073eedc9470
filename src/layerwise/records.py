"""Frozen records to plain JSON values and back; an absent value is an absent key, never null."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from layerwise import late_methods
from layerwise.errors import SchemaError
from layerwise.files import canonical_json, read_json, whole_lines

T = TypeVar("T")
L = TypeVar("L", bound="FileRecord")

#: Marks a field that may be None and has no default: as what is None is left out, it is read so.
ABSENT: Any = Field(default=None)


def to_plain(record: object) -> Any:
    """Return `record` as dicts, lists, strings, numbers, booleans, without fields that are None."""
    if is_dataclass(record):
        record = {f.name: getattr(record, f.name) for f in fields(record)}
    if isinstance(record, Mapping):
        return {str(k): to_plain(v) for k, v in record.items() if v is not None}
    return [to_plain(v) for v in record] if isinstance(record, list | tuple) else record


def from_plain(plain: Any, record_type: type[T], *, source: object) -> T:
    """Return a `record_type` from the values that `to_plain` gave.

    Raises:
        SchemaError: A key is missing or a value is of another type; `source` names the file.
    """
    kind: Any = record_type  # To mypy, a type variable's type is no key of a cache.
    try:
        found: T = _reader(kind).validate_python(plain)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the whole"
        msg = f"malformed record ({where}: {fault['msg']})"
        raise SchemaError(msg, value=source, expected=f"a {record_type.__name__}") from error
    return found


@cache
def _reader(record_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(record_type)


def read_lines(path: Path, record_type: type[T], *, schema: str, what: str) -> tuple[T, ...]:
    """Return the records of `path`, one a line, in their order; none where there is no such file.

    An unfinished last line, of a process that was killed, is left out. `what` is a record's name in
    an error.

    Raises:
        SchemaError: A line holds no such record, or one of another schema; names the line.
    """
    found = []
    for number, line in enumerate(whole_lines(path), 1):
        where = f"{path}, line {number}"
        try:
            plain = json.loads(line)
        except ValueError as error:
            msg = f"unreadable {what}"
            raise SchemaError(msg, value=where, expected="a JSON object a line") from error
        if not isinstance(plain, dict) or plain.get("schema") != schema:
            msg = f"line that is no {what}"
            raise SchemaError(msg, value=where, expected=schema)
        found.append(from_plain(plain, record_type, source=where))
    return tuple(found)


def record_file(path: Path | str, *, name: str) -> Path:
    """Return the file of a record that is named by itself, or by the folder that holds it."""
    path = Path(path)
    return path / name if path.is_dir() else path


class JsonRecord:
    """What a frozen record has that goes into a file as JSON.

    Attributes:
        SCHEMA: What the file says that it holds, with its version.
    """

    SCHEMA: ClassVar[str]

    def to_plain(self) -> dict[str, Any]:
        """Return the record as JSON values, its schema first."""
        return {"schema": self.SCHEMA, **to_plain(self)}

    def to_json(self) -> bytes:
        """Return the content of the record's file; the same record is the same bytes."""
        return canonical_json(self.to_plain())


class FileRecord:
    """What a frozen record has that is read from a file of its own.

    Attributes:
        SCHEMA: What the file says that it holds, with its version.
        FILE: The file's name in a folder.
        OLDER: Earlier schemas that are read too, each with what makes of its values those of today.
    """

    SCHEMA: ClassVar[str]
    FILE: ClassVar[str]
    OLDER: ClassVar[Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {}

    @classmethod
    def load(cls: type[L], path: Path | str) -> L:
        """Return the record in `path`: its file, or the folder that holds it under `FILE`.

        Raises:
            SchemaError: None is there, or it is malformed or of another schema.
        """
        file = record_file(path, name=cls.FILE)
        plain = read_json(file, cls.SCHEMA, *cls.OLDER)
        renewed = cls.OLDER.get(plain["schema"], dict)(plain)
        return from_plain(renewed, cls, source=file)


class DocumentRecord:
    """What a record has that says what it holds: `print` shows it, a notebook draws it.

    Attributes:
        DOCUMENT: The module of `layerwise.report.documents` that says so.
    """

    DOCUMENT: ClassVar[str]

    def __str__(self) -> str:
        """Return the record as a terminal shows it."""
        return str(late_methods.call("text", self))

    def _repr_html_(self) -> str:
        """Return the record's report, for a notebook to show."""
        return str(late_methods.call("notebook", self))
