"""Files as rows: one reader for each ending, which makes a frame whose cells are objects."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from layerwise.errors import DataError
from layerwise.registry import Registry

#: What reads a file, by the ending of its name in small letters. Columns are of dtype object; what
#: it raises of OSError and ValueError is told as an unreadable file.
READERS = Registry[Callable[[Path], pd.DataFrame]]("data file ending")


@READERS.register(".jsonl")
def read_jsonl(path: Path) -> pd.DataFrame:
    """Return one row for each line that is not blank; keys are columns."""
    with path.open(encoding="utf-8-sig") as lines:
        rows = [_record(x, number=i, path=path) for i, x in enumerate(lines, 1) if x.strip()]
    return pd.DataFrame(rows, dtype=object)


def _record(line: str, *, number: int, path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(what=f"line {number} is not JSON ({error})", value=path) from error
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise DataError(what=f"line {number} is a JSON {kind}", value=path, expected="an object")
    return record


@READERS.register(".csv")
def read_csv(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV file, every cell the string that stands there."""
    try:
        return pd.read_csv(path, dtype=object, keep_default_na=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


@READERS.register(".parquet")
def read_parquet(path: Path) -> pd.DataFrame:
    """Return the rows of a Parquet file."""
    return pd.read_parquet(path).astype(object)


@READERS.register(".txt")
def read_text(path: Path) -> pd.DataFrame:
    """Return one row, in column ``text``, for each line that is not blank."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return pd.DataFrame({"text": [line.strip() for line in lines if line.strip()]}, dtype=object)
