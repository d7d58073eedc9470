"""Files as rows: one reader for each ending, which makes a frame whose cells are objects."""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from io import BytesIO, StringIO
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from layerwise.errors import DataError, UnknownNameError, one_line
from layerwise.extras import require
from layerwise.registry import Registry

Reader = Callable[[Path], pd.DataFrame]

#: What reads a file, by the ending of its name in small letters. Columns are of dtype object; what
#: it raises of OSError and ValueError is told as an unreadable file.
READERS = Registry[Reader]("data file ending")

#: Under which key of a frame's ``attrs`` the names of a column's classes stand, by the column.
CLASSES = "classes"
#: And under which what else there is to say of how it was read.
SAID = "said"


# --- Packed files -----------------------------------------------------------------------------


def _unzstd(packed: bytes) -> bytes:
    pa = require("pyarrow", extra="datasets", purpose="unpack Zstandard files")
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        return bytes(stream.read())


#: What unpacks a file, by the ending that stands behind the reader's.
PACKED: Mapping[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".zst": _unzstd}


def reader_of(path: Path) -> Reader | None:
    """Return what reads the file called `path`; None where no reader is for its ending."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in PACKED:
        endings.pop()
    return READERS[endings[-1]] if endings and endings[-1] in READERS else None


def content(path: Path) -> bytes:
    """Return what `path` holds, unpacked where its name says that it is packed."""
    unpack, packed = PACKED.get(path.suffix.lower()), path.read_bytes()
    return packed if unpack is None else unpack(packed)


def text(path: Path) -> str:
    """Return the text that `path` holds: UTF-8, with or without a mark of the byte order.

    Raises:
        DataError: It holds what no text does.
    """
    found = content(path)
    if 0 in found:
        raise DataError(
            what="file with NUL bytes, so no UTF-8 text",
            value=path,
            expected="UTF-8 text",
            hint="iconv -f utf-16 -t utf-8",
        )
    return found.decode("utf-8-sig")


def lines_of(path: Path) -> list[str]:
    """Return the lines of the text that `path` holds, parted by what ends lines in files alone."""
    return text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_file(path: Path, split: str = "") -> pd.DataFrame:
    """Return the rows of one file, or of a `split` of it, by the reader that its ending names.

    Raises:
        DataError: There is no such file or reader, or the file is not what its ending says.
        UnknownNameError: It holds no such split.
    """
    reader = reader_of(path)
    if reader is None:
        raise DataError(
            what="unknown file type",
            value=path,
            expected=f"a file ending in {' '.join(READERS)}, or packed as {' '.join(PACKED)}",
        )
    try:
        if split and reader is read_json:
            return _json(path, split)
        frame = reader(path)
    except FileNotFoundError:
        raise DataError(what="no such data file", value=path, expected="an existing file") from None
    except UnicodeDecodeError as error:
        raise DataError(
            what=f"file is not UTF-8 (byte {error.start})",
            value=path,
            expected="UTF-8 text",
            hint="iconv -t utf-8",
        ) from error
    except RecursionError as error:
        raise DataError(what="data nested too deep to read", value=path) from error
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(what=f"unreadable data file ({error})", value=path) from error
    if split:
        raise DataError(what="file without splits", value=f"{path}:{split}", expected=str(path))
    return frame


# --- JSON -------------------------------------------------------------------------------------


def _parsed(written: str) -> Any:
    """Return the value that JSON writes; a key that stands twice in an object would lose one."""

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            message = f"a key stands twice in {one_line(pairs)}"
            raise ValueError(message)
        return made

    return json.loads(written, object_pairs_hook=object_of)


@READERS.register(".jsonl")
def read_jsonl(path: Path) -> pd.DataFrame:
    """Return one row for each line that is not blank; keys are columns."""
    records = []
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            records.append(_parsed(line))
        except ValueError as error:
            is_array = number == 1 and line.lstrip().startswith("[")
            hint = f"name it {path.stem}.json, for it is one array" if is_array else ""
            what = f"line {number} is not JSON ({error})"
            raise DataError(what=what, value=path, hint=hint) from error
        if not isinstance(records[-1], dict):
            what = f"line {number} is a JSON {type(records[-1]).__name__}"
            raise DataError(what=what, value=path, expected="an object")
    return pd.DataFrame(records, dtype=object)


@READERS.register(".json")
def read_json(path: Path) -> pd.DataFrame:
    """Return the rows of a list of objects, alone or under a key of an object; or JSON Lines."""
    return _json(path, "")


def _json(path: Path, split: str) -> pd.DataFrame:
    """Return the rows of the `split` that is named, if any is."""
    try:
        held = _parsed(text(path))
    except ValueError:
        first = next((line for line in lines_of(path) if line.strip()), "")
        if split or not (first.startswith("{") and first.rstrip().endswith("}")):
            raise
        return read_jsonl(path)
    if isinstance(held, dict) and held:
        if held.keys() == {"columns", "index", "data"}:  # As pandas writes frames, split …
            return pd.DataFrame(held["data"], columns=held["columns"], dtype=object)
        if all(isinstance(v, dict) and all(map(str.isdecimal, v)) for v in held.values()):
            held = {name: [*cells.values()] for name, cells in held.items()}  # … and by default.
        splits = {name: rows for name, rows in held.items() if rows and _is_rows(rows)}
        columns = [value for value in held.values() if isinstance(value, list)]
        if splits or split:
            held = splits[split_of(splits, hint=f"{path}:SPLIT", split=split)]
        elif len(columns) < len(held) or len({*map(len, columns)}) > 1:  # No table of columns.
            held = [held]
    elif not _is_rows(held):
        raise DataError(
            what=f"JSON {type(held).__name__} that holds no rows",
            value=path,
            expected="a list of objects, an object of lists, or an object a line",
        )
    return pd.DataFrame(held, dtype=object)


def _is_rows(held: Any) -> bool:
    return isinstance(held, list) and all(isinstance(row, dict) for row in held)


def split_of(splits: Iterable[str], *, hint: str, split: str = "") -> str:
    """Return which of `splits` is read: that named, train, or the only one.

    Raises:
        DataError: There is none.
        UnknownNameError: There is no such one; or several, and none is called train.
    """
    names = [*splits]
    if not names:
        raise DataError(what="data holds no row", expected="at least one split")
    if not split and len(names) == 1:
        return names[0]
    if (wanted := split or "train") not in names:
        raise UnknownNameError(what="split", value=wanted, known=names, hint=hint)
    return wanted


# --- Tables as text ---------------------------------------------------------------------------

_SEPARATORS = ",;\t|"
_LOOKED_AT = 50
"""Rows of a table by which its separator is found."""


@READERS.register(".csv")
def read_csv(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV file, whatever parts its cells; each is the string there."""
    found = text(path)
    return _table(found, path, delimiter=_separator(found))


@READERS.register(".tsv")
def read_tsv(path: Path) -> pd.DataFrame:
    """Return the rows of a table whose cells tabs part.

    Quotes are part of the cells where each line has as many tabs and some quote is not closed.
    """
    found = text(path)
    lines = [line for line in lines_of(path) if line.strip()]
    opened = [cell for line in lines for cell in line.split("\t") if cell.startswith('"')]
    is_even = len({line.count("\t") for line in lines}) == 1
    is_plain = is_even and not all(len(cell) > 1 and cell.endswith('"') for cell in opened)
    quoting = csv.QUOTE_NONE if is_plain else csv.QUOTE_MINIMAL
    return _table(found, path, delimiter="\t", quoting=quoting)


def _separator(found: str) -> str:
    """Return what parts the heading into the most cells, and rather the first rows into as many."""
    best, separator = (False, 1), ","
    for each in _SEPARATORS:
        rows = csv.reader(found.splitlines(keepends=True), delimiter=each)
        with suppress(csv.Error):
            sizes = [len(row) for row in islice(filter(None, rows), _LOOKED_AT)]
            cells = sizes[0] if sizes else 0
            if cells > 1 and (len({*sizes}) == 1, cells) > best:
                best, separator = (len({*sizes}) == 1, cells), each
    return separator


def _table(found: str, path: Path, **dialect: Any) -> pd.DataFrame:
    """Return the rows under a heading; each has as many cells as that.

    Raises:
        DataError: One has not, a quote is not closed, or two columns have one name.
    """
    limit = csv.field_size_limit(max(1, len(found)))
    raw = [*StringIO(found, newline="")]
    try:
        lines = csv.reader(raw, strict=True, **dialect)
        rows = [(lines.line_num, row) for row in lines if row]
    except csv.Error as error:
        raise DataError(what=f"line {lines.line_num} is no row ({error})", value=path) from error
    finally:
        csv.field_size_limit(limit)
    if not rows:
        return pd.DataFrame()
    names = [name or f"column {i}" for i, name in enumerate(rows[0][1], 1)]
    if odd := _cells(names, [row for _, row in rows[1:]]):
        what = f"table without a heading: its first line holds {one_line(odd[0])!r}"
        raise DataError(what, value=path, expected="a first line such as text,label")
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise DataError(
                what=f"the row that ends in line {line} has {len(row)} cells",
                value=path,
                expected=f"{len(names)}, as the heading has; quotes around a cell with separators",
            )
    frame = pd.DataFrame([row for _, row in rows[1:]], columns=names, dtype=object)
    spans = ((raw[start:end], end) for (start, _), (end, _) in pairwise(rows) if end - start > 1)
    parted = dialect["delimiter"]
    full = [
        end for span, end in spans if all(line.count(parted) == len(names) - 1 for line in span)
    ]
    if full and len(names) > 1:
        told = f"rows of several lines, each with a row's cells: {len(full):,}, the first to line "
        frame.attrs[SAID] = [f"{told}{full[0]} (is a quote not closed?)"]
    return frame


#: Names by which a heading is known, whatever else it holds.
_USUAL = {"text", "label", "labels", "id", "prompt", "completion", "sentence", "content", "class"}


def _cells(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return which of what should be the columns' names are rather cells: none in a heading.

    They are numbers, but for pandas' own from 0 on, stand further down too, or are sentences.
    """
    if _USUAL & {name.strip().lower() for name in names}:
        return []
    numbers = [name for name in names if name.strip().lstrip("+-").replace(".", "", 1).isdecimal()]
    if numbers == [*map(str, range(len(names)))]:
        numbers = []
    below = [{row[i] for row in rows if i < len(row)} for i in range(len(names))]
    return numbers + [
        name
        for name, cells in zip(names, below, strict=True)
        if name in cells or (len(name.split()) > 3 and name.rstrip().endswith((".", "!")))
    ]


@READERS.register(".txt")
def read_text(path: Path) -> pd.DataFrame:
    """Return one row, in column ``text``, for each line that is not blank."""
    lines = [line.strip() for line in lines_of(path)]
    return pd.DataFrame({"text": [line for line in lines if line]}, dtype=object)


# --- Arrow ------------------------------------------------------------------------------------


@READERS.register(".parquet")
def read_parquet(path: Path) -> pd.DataFrame:
    """Return the rows of a Parquet file."""
    parquet = require("pyarrow.parquet", extra="datasets", purpose="read Parquet files")
    return arrow_frame(parquet.read_table(BytesIO(content(path))))


def arrow_frame(table: Any) -> pd.DataFrame:
    """Return the rows of an Arrow table as Python's own objects, with the names of its classes."""
    columns = {name: present(table[name].to_pylist()) for name in table.column_names}
    frame = pd.DataFrame(columns, dtype=object)
    told = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    frame.attrs[CLASSES] = class_names((told.get("info") or {}).get("features") or {})
    return frame


def class_names(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the names of each column's classes, in features as `datasets` writes them."""
    kinds = {name: kind for name, kind in features.items() if isinstance(kind, Mapping)}
    inner = {name: kind.get("feature") or kind for name, kind in kinds.items()}  # Of a list.
    told = {
        name: kind["names"] for name, kind in inner.items() if kind.get("_type") == "ClassLabel"
    }
    return {name: tuple(names) for name, names in told.items()}


def present(value: Any) -> Any:
    """Return `value` without the keys of its mappings that are null.

    Arrow gives each struct of a column every key of all of them: what is null was not there.
    """
    if isinstance(value, dict):
        return {key: present(v) for key, v in value.items() if v is not None}
    return [present(v) for v in value] if isinstance(value, list) else value
