"""A finished run on disk: weights or adapter first, the record that names their hashes last."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from layerwise import distributed
from layerwise.errors import SchemaError
from layerwise.files import remove, write_atomic
from layerwise.models.load import LoadedModel
from layerwise.tuning.adapters import merged
from layerwise.tuning.checkpoints import hashes
from layerwise.tuning.record import TuneRecord
from layerwise.tuning.run import Tuned
from layerwise.tuning.steps import CHECKPOINTS
from layerwise.tuning.writing import writable, write_model

RECORD = "tune.json"
INITIAL = "initial"
"""The folder, beside the result, of random weights that a run started from."""


def save(tuned: Tuned, folder: Path, *, weights: bool = True) -> Tuned:
    """Return `tuned`, whose record now names the files that lie in `folder`.

    The folder can be loaded as a model, or as an adapter of its base. A result that was there is
    replaced, once the new one is written in full. Of several processes the first writes. Without
    `weights`, the record alone is kept.

    Raises:
        OutputError: It cannot be written; what was there stays, and nothing of the result.
    """
    if distributed.rank() != 0:
        return tuned
    if not weights:
        write_atomic(folder / RECORD, tuned.record.to_json())
        return tuned
    with _staged(folder) as staging:
        whole, record = _whole(tuned)
        write_model(whole, staging)
        record = replace(record, files=hashes(staging))
        write_atomic(staging / RECORD, record.to_json())
        drop_former(folder, inside=folder)
        for name in (*record.files, RECORD):
            first = folder / Path(name).parts[0]
            if first.is_symlink():  # What it leads to would be written over.
                remove(first, inside=folder)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(folder / name)
    remove(folder / CHECKPOINTS, inside=folder)
    return replace(tuned, record=record)


def _whole(tuned: Tuned) -> tuple[LoadedModel, TuneRecord]:
    """Return what is to be written: adapters alone only where their base is a model in a folder."""
    loaded, record = tuned.loaded, tuned.record
    if loaded.base is None or record.form != "adapter":
        return loaded, record
    # Adapters on a model with another adapter merged into it have no base in any folder: PEFT,
    # given the other adapter's, would take theirs for it.
    note = f"the whole model is kept: its adapters are on {loaded.source}, itself an adapter"
    record = replace(record, form="model", notes=(*record.notes, note))
    return replace(loaded, model=merged(loaded.model)), record


def keep_initial(loaded: LoadedModel, folder: Path) -> LoadedModel:
    """Get `loaded`, random weights, as the model that now lies in the folder `INITIAL` of `folder`.

    Raises:
        OutputError: It cannot be written.
    """
    target = folder / INITIAL
    if distributed.rank() == 0:
        with _staged(folder) as staging:
            write_model(loaded, staging)
            remove(target, inside=folder)
            staging.replace(target)
    return replace(loaded, source=str(target))


def drop_former(folder: Path, *, inside: Path) -> None:
    """Remove the result that `folder` holds, the record first: without it there is no result.

    A record may name anything; only files that lie in `inside` go.
    """
    try:
        former = TuneRecord.load(folder)
    except SchemaError:  # None, or one of which nothing can be told.
        return
    for name in (RECORD, *former.files):
        remove(folder / name, inside=inside, folders=False)


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Make a folder on the same disk for what must be whole before it is seen; gone after."""
    with writable("the result", folder):
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder, prefix=".result."))
        staging.chmod(0o755)
        try:
            yield staging
        finally:
            remove(staging, inside=folder)
