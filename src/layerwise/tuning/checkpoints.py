"""Checkpoints that are whole or not there: sealed with their hashes, checked before use."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerwise import distributed
from layerwise.errors import SchemaError
from layerwise.files import canonical_json, read_json, remove, sha256, write_atomic
from layerwise.resources import unwritable
from layerwise.tuning.writing import writable

log = logging.getLogger(__name__)

MANIFEST = "layerwise.json"
SCHEMA = "layerwise/checkpoint/1"
_ANEW = "run again without --resume"
_NAME = re.compile(r"checkpoint-(\d+)")


def hashes(folder: Path) -> dict[str, str]:
    """Hash each file under `folder` by SHA-256, named by its path; the manifest left out."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {str(p.relative_to(folder)): sha256(p) for p in files}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole.

    Attributes:
        folder: Where it lies.
        step: The optimizer step after which it was made.
        tau: The relative step of its run, where there is one.
    """

    folder: Path
    step: int
    tau: float | None = None


class Checkpoints:
    """The checkpoints of one run, of which the last whole one is kept.

    The one before it stays until a step went well from the last one.

    Args:
        folder: Where they lie, as ``checkpoint-<step>``.
        run: What the run is; a checkpoint of another one is refused.
        tau: The run's relative step, which is kept beside the weights.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], *, tau: float | None = None) -> None:
        self.folder, self.tau = folder, tau
        self._run = json.loads(canonical_json(run))
        self._is_settled = False

    def save(self, write: Callable[[], None], step: int) -> None:
        """Let `write` save the checkpoint of `step`, then seal it.

        Raises:
            OutputError: It cannot be written; the one before stays, and nothing of this one.
        """
        target = self.folder / f"checkpoint-{step}"
        kept = [f"checkpoint-{s}" for s in self.steps() if s != step]
        expected = f"room on the disk; kept: {kept[-1] if kept else 'none'}"
        try:
            with writable(f"the checkpoint of step {step}", target, expected=expected):
                self._together(write)
                self._together(
                    lambda: self._seal(target, step) if distributed.rank() == 0 else None
                )
        finally:  # An interrupt comes through here too.
            if not (target / MANIFEST).exists():
                self._drop(target)
        self._is_settled = False

    def _together(self, work: Callable[[], None]) -> None:
        """Do `work` in every process, and fail in each if it failed in one."""
        fault: Exception | None = None
        try:
            work()
        except Exception as error:
            if not unwritable(error):
                raise
            fault = error
        faults = [f for f in distributed.all_gather(None if fault is None else str(fault)) if f]
        if faults:
            raise fault or OSError(faults[0])

    def _seal(self, target: Path, step: int) -> None:
        manifest = {
            "schema": SCHEMA,
            "step": step,
            "run": self._run,
            "files": hashes(target),
            **({} if self.tau is None else {"tau": self.tau}),
        }
        write_atomic(target / MANIFEST, canonical_json(manifest | {"sha256": _digest(manifest)}))

    def settle(self) -> None:
        """Drop all but the last checkpoint, from which a step has gone well."""
        if self._is_settled or distributed.rank() != 0:
            return
        for older in self.steps()[:-1]:
            self._drop(self.folder / f"checkpoint-{older}")
        self._is_settled = True

    def steps(self) -> list[int]:
        """Return the steps of the sealed checkpoints, ascending."""
        found = (_NAME.fullmatch(p.name) for p in self.folder.glob("checkpoint-*"))
        steps = (int(m[1]) for m in found if m)
        return sorted(s for s in steps if (self.folder / f"checkpoint-{s}" / MANIFEST).exists())

    def clear(self) -> None:
        """Remove every checkpoint: this run starts anew."""
        if distributed.rank() == 0:
            self._drop(self.folder)

    def _drop(self, path: Path) -> None:
        remove(path, inside=self.folder.parent)

    def latest(self) -> Checkpoint | None:
        """Return the last sealed checkpoint, checked; None where there is none.

        A checkpoint without its seal was being written when the run was killed, and is not used.

        Raises:
            SchemaError: A file is missing, is not what was written, or the run was another one.
        """
        steps = self.steps()
        for partial in sorted(self.folder.glob("checkpoint-*")):
            if not (partial / MANIFEST).exists():
                log.warning("%s was cut off while it was written and is not used", partial)
        if not steps:
            return None
        folder = self.folder / f"checkpoint-{steps[-1]}"
        manifest = read_json(folder / MANIFEST, schema=SCHEMA)
        digest = manifest.pop("sha256", None)
        if digest != _digest(manifest) or manifest.get("step") != steps[-1]:
            _refuse_damaged(folder / MANIFEST)
        self._refuse_other(manifest["run"], folder)
        for name, written in manifest["files"].items():
            path = folder / name
            if not path.exists():
                message = "checkpoint without a file that it had"
                raise SchemaError(message, value=path, expected="what was written", hint=_ANEW)
            if sha256(path) != written:
                _refuse_damaged(path)
        return Checkpoint(folder, steps[-1], manifest.get("tau"))

    def _refuse_other(self, run: Mapping[str, Any], folder: Path) -> None:
        # What checkpoints did not say before they said the dtype, is taken to be the same.
        unsaid = set() if "dtype" in run else {"dtype", "classes"}
        keys = sorted({*run, *self._run} - unsaid)
        other = [k for k in keys if run.get(k) != self._run.get(k)]
        if other:
            shown = ", ".join(f"{k}={run.get(k)!r}, now {self._run.get(k)!r}" for k in other)
            message, expected = "checkpoint of another run", f"what {folder} was made with"
            hint = "the same options, or another --out"
            if "steps" in other:  # The learning rate falls to the last of them.
                hint = f"--steps {run.get('steps')}, and then tune its result for more; or {hint}"
            raise SchemaError(message, value=shown, expected=expected, hint=hint)


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(manifest)).hexdigest()


def _refuse_damaged(path: Path) -> None:
    message = "checkpoint with a damaged file"
    raise SchemaError(message, value=path, expected="what was written", hint=_ANEW)
