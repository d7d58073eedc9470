"""Checkpoints that are whole or not there: sealed with their hashes, checked before use."""

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors import SafetensorError

from layerwise import distributed
from layerwise.errors import OutputError, SchemaError
from layerwise.files import canonical_json, read_json, sha256, write_atomic

__all__ = ["MANIFEST", "Checkpoints", "hashes"]

log = logging.getLogger(__name__)

MANIFEST = "layerwise.json"
SCHEMA = "layerwise/checkpoint/1"
_NAME = re.compile(r"checkpoint-(\d+)")
# What the writers beneath raise on a full disk; torch's archive writer has no type of its own.
_UNWRITABLE = (OSError, SafetensorError, RuntimeError)


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file under `folder`, by its path there; the manifest's own left out."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {str(p.relative_to(folder)): sha256(p) for p in files}


class Checkpoints:
    """The checkpoints of one run, of which the last whole one is kept.

    Args:
        folder: Where they lie, as ``checkpoint-<step>``.
        run: What the run is; a checkpoint of another one is refused.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self.folder = folder
        self._run = json.loads(canonical_json(run))

    def save(self, write: Callable[[], None], step: int) -> None:
        """Let `write` save the checkpoint of `step`, seal it, and only then drop the one before.

        Raises:
            OutputError: It cannot be written; the one before stays, and nothing of this one.
        """
        target = self.folder / f"checkpoint-{step}"
        try:
            write()
            if distributed.world_size() > 1:
                dist.barrier()
            if distributed.rank() == 0:
                self._seal(target, step)
        except _UNWRITABLE as error:
            shutil.rmtree(target, ignore_errors=True)
            kept = self._steps()
            message = f"cannot write the checkpoint of step {step} ({error})"
            expected = f"room on the disk; kept: {f'checkpoint-{kept[-1]}' if kept else 'none'}"
            raise OutputError(
                message, value=target, expected=expected, hint="free space, then --resume"
            ) from error

    def _seal(self, target: Path, step: int) -> None:
        manifest = {"schema": SCHEMA, "step": step, "run": self._run, "files": hashes(target)}
        write_atomic(target / MANIFEST, canonical_json(manifest))
        for older in self._steps():
            if older != step:
                shutil.rmtree(self.folder / f"checkpoint-{older}")

    def _steps(self) -> list[int]:
        """The steps of the sealed checkpoints, ascending."""
        found = (_NAME.fullmatch(p.name) for p in self.folder.glob("checkpoint-*"))
        steps = (int(m[1]) for m in found if m)
        return sorted(s for s in steps if (self.folder / f"checkpoint-{s}" / MANIFEST).exists())

    def latest(self) -> tuple[Path, int] | None:
        """The last sealed checkpoint and its step, checked; None where there is none.

        A checkpoint without its seal was being written when the run was killed, and is not used.

        Raises:
            SchemaError: A file is missing, is not what was written, or the run was another one.
        """
        steps = self._steps()
        for partial in sorted(self.folder.glob("checkpoint-*")):
            if not (partial / MANIFEST).exists():
                log.warning("%s was cut off while it was written and is not used", partial)
        if not steps:
            return None
        folder = self.folder / f"checkpoint-{steps[-1]}"
        manifest = read_json(folder / MANIFEST, schema=SCHEMA)
        self._refuse_other(manifest["run"], folder)
        _refuse_damaged(manifest["files"], folder)
        return folder, steps[-1]

    def _refuse_other(self, run: Mapping[str, Any], folder: Path) -> None:
        keys = sorted({*run, *self._run})
        other = [k for k in keys if run.get(k) != self._run.get(k)]
        if other:
            shown = ", ".join(f"{k}={run.get(k)!r}, now {self._run.get(k)!r}" for k in other)
            message = "checkpoint of another run"
            raise SchemaError(
                message,
                value=shown,
                expected=f"what {folder} was made with",
                hint="the same options, or another --out",
            )


def _refuse_damaged(files: Mapping[str, str], folder: Path) -> None:
    for name, digest in files.items():
        path = folder / name
        what = None if path.exists() else "checkpoint without a file that it had"
        if what is None and sha256(path) != digest:
            what = "checkpoint with a damaged file"
        if what:
            raise SchemaError(
                what, value=path, expected="what was written", hint="run again without --resume"
            )
