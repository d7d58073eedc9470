"""A finished run on disk: weights or adapter first, the record that names their hashes last."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError

from layerwise import distributed
from layerwise.errors import OutputError
from layerwise.files import write_atomic
from layerwise.models.quiet import quiet
from layerwise.tuning.checkpoints import hashes
from layerwise.tuning.run import CHECKPOINTS, Tuned

__all__ = ["RECORD", "save"]

RECORD = "tune.json"


def save(tuned: Tuned, folder: Path) -> Tuned:
    """`tuned`, whose record now names the files that lie in `folder`.

    The folder can be loaded as a model, or as an adapter of its base. Of several processes the
    first writes.

    Raises:
        OutputError: It cannot be written; nothing of the result is left there.
    """
    if distributed.rank() != 0:
        return tuned
    with _staged(folder) as staging:
        _write(tuned, staging)
        written = hashes(staging)
        for name in written:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(folder / name)
    record = replace(tuned.record, files=written)
    write_atomic(folder / RECORD, record.to_json())
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return replace(tuned, record=record)


def _write(tuned: Tuned, folder: Path) -> None:
    options = {"save_embedding_layers": False} if tuned.record.form == "adapter" else {}
    with quiet():
        tuned.loaded.model.save_pretrained(folder, **options)
        tuned.loaded.tokenizer.save_pretrained(folder)
    for card in folder.glob("README.md"):  # PEFT's template of a model card, all of it to fill in.
        card.unlink()


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder on the same disk for what must be whole before it is seen; gone on any exit."""
    staging = Path(tempfile.mkdtemp(dir=folder, prefix=".result."))
    try:
        yield staging
    except (OSError, SafetensorError) as error:
        message = f"cannot write the result ({error})"
        raise OutputError(
            message, value=folder, expected="room on the disk", hint="free space, then --resume"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
