"""Data in hand as rows: what Python has of texts, tables, data sets and loaders of batches."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from layerwise.data.readers import CLASSES, present, split_of
from layerwise.errors import DataError
from layerwise.registry import Registry

#: The label of a token that no loss counts, in batches that are ready.
_IGNORED = -100


@dataclass(frozen=True)
class ObjectReader:
    """What reads a kind of object.

    Attributes:
        name: What the kind is called.
        is_one: Whether an object is of the kind.
        frame: Makes the rows of one.
    """

    name: str
    is_one: Callable[[Any], bool]
    frame: Callable[[Any], pd.DataFrame]


#: What reads objects; the first that an object is one of is taken.
OBJECTS = Registry[ObjectReader]("kind of data in hand")


def object_table(held: Any) -> pd.DataFrame:
    """Return the rows of `held`, every column of dtype object.

    Raises:
        DataError: Nothing reads it, or its members are of several kinds.
    """
    for reader in OBJECTS.values():
        if reader.is_one(held):
            return reader.frame(held)
    expected = f"a name, or a {', '.join(OBJECTS)}"
    raise DataError(what="no data", value=type(held).__name__, expected=expected)


def _is_of(package: str, *names: str) -> Callable[[Any], bool]:
    """Return what tells an object of a package's class by its name, so that nobody imports it."""

    def is_one(held: Any) -> bool:
        return any(
            kind.__name__ in names and kind.__module__.split(".")[0] == package
            for kind in type(held).__mro__
        )

    return is_one


def _frame_of_objects(held: pd.DataFrame) -> pd.DataFrame:
    """Return `held` numbered from 0, what is missing as None, categories as their values."""
    frame = held.reset_index(drop=True).astype(object)
    frame.columns = [str(column) for column in frame.columns]
    frame = frame.where(frame.notna(), None)
    frame.attrs[CLASSES] = {
        str(name): tuple(map(str, values.cat.categories))
        for name, values in held.items()
        if isinstance(values.dtype, pd.CategoricalDtype)
    }
    return frame


def dataset_frame(held: Any, *, source: str = "") -> pd.DataFrame:
    """Return the rows of a `datasets` data set, of its split train where it has several."""
    if isinstance(held, Mapping):
        held = held[split_of(held, source=source or type(held).__name__)]
    features = getattr(held, "features", None) or {}
    if not hasattr(held, "column_names") or not hasattr(held, "__len__"):  # One that streams.
        frame = _rows_frame(held)
    else:
        columns = {name: present(list(held[name])) for name in held.column_names}
        frame = pd.DataFrame(columns, dtype=object)
    frame.attrs[CLASSES] = {
        name: tuple(feature.names)
        for name, feature in features.items()
        if type(feature).__name__ == "ClassLabel"
    }
    return frame


def _rows_frame(held: Iterable[Any]) -> pd.DataFrame:
    """Return strings as rows of one column ``text``, mappings as rows of their keys."""
    rows = list(held)
    if all(isinstance(row, str) for row in rows):
        return pd.DataFrame({"text": rows}, dtype=object)
    odd = [(i, row) for i, row in enumerate(rows, 1) if not isinstance(row, Mapping)]
    if odd:
        number, row = odd[0]
        what = f"row {number} is a {type(row).__name__}"
        raise DataError(what=what, value=row, expected="strings alone, or mappings alone")
    return pd.DataFrame(rows, dtype=object)


def _batches_frame(loader: Iterable[Any]) -> pd.DataFrame:
    """Return a row of tokens for each row of ready batches; where they have none, their rows."""
    rows: list[Any] = []
    for batch in loader:
        if isinstance(batch, Mapping) and hasattr(batch.get("input_ids"), "tolist"):
            rows += _token_rows(batch)
        elif isinstance(batch, Mapping):
            members = zip(*batch.values(), strict=True)
            rows += [dict(zip(batch, member, strict=True)) for member in members]
        else:
            rows += [batch] if isinstance(batch, str) else list(batch)
    return _rows_frame(rows)


def _token_rows(batch: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Yield each row of a batch without its padding; labels are those of the tokens themselves."""
    ids = batch["input_ids"].tolist()
    masks = batch["attention_mask"].tolist() if "attention_mask" in batch else None
    labels = batch["labels"].tolist() if "labels" in batch else None
    for i, row in enumerate(ids):
        kept = [j for j in range(len(row)) if masks is None or masks[i][j]]
        found = {"input_ids": [row[j] for j in kept]}
        if labels is not None and isinstance(labels[i], list) and len(labels[i]) == len(row):
            found["labels"] = [labels[i][j] for j in kept]
        elif labels is not None:
            found["label"] = labels[i]
        yield found


for _reader in (
    ObjectReader("DataFrame", lambda held: isinstance(held, pd.DataFrame), _frame_of_objects),
    ObjectReader(
        "Dataset or DatasetDict of datasets",
        _is_of("datasets", "Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict"),
        dataset_frame,
    ),
    ObjectReader("DataLoader of ready batches", _is_of("torch", "DataLoader"), _batches_frame),
    ObjectReader(
        "list or iterable of strings or mappings",
        lambda held: isinstance(held, Iterable) and not isinstance(held, Mapping | str | bytes),
        _rows_frame,
    ),
):
    OBJECTS.add(_reader)
