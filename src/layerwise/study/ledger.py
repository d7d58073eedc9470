"""The ledger of a study: a folder a run, its spec written first and its result last.

    LEDGER/ledger.json                  what it is, and whose
    LEDGER/study.yaml, study.json       the study that it was last opened for: as typed, and whole
    LEDGER/runs/<id>/spec.json          written first
                     lease.<n>.json     who runs it
                     log.jsonl, profile.json, ...
                     result.json        written last, once, with the SHA-256 of what is beside it
                     failure.json       in its place, where the run ended without one

What became of a run is read from its folder alone, so a study goes on from whatever is there.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from layerwise.errors import LayerwiseError, OutputError, SchemaError, one_line
from layerwise.files import (
    canonical_json,
    read_json,
    remove,
    sha256,
    write_atomic,
    write_files,
    write_once,
)
from layerwise.records import from_plain
from layerwise.study.lease import Lease, claim, file_system_now, is_held
from layerwise.study.record import SPEC_SCHEMA, STUDY_SCHEMA, Cell, Failure, Study, is_safe

SCHEMA = "layerwise/ledger/1"
RESULT_SCHEMA = "layerwise/result/1"
FAILURE_SCHEMA = "layerwise/failure/1"

ABOUT, STUDY, TYPED, RUNS = "ledger.json", "study.json", "study.yaml", "runs"
SPEC, RESULT, FAILURE, OUTPUT = "spec.json", "result.json", "failure.json", "output.txt"

State = Literal["waiting", "running", "lost", "done", "failed"]
"""Of a run: not begun; held by a process; begun and left by one that is gone; with a result; or
ended without one."""

_LONGEST_ID = 160


@dataclass(frozen=True)
class Ledger:
    """The runs of a study on disk.

    Attributes:
        root: Its folder.
        name: The study's name.
        keep_weights: Whether the weights after each run stay.
    """

    root: Path
    name: str
    keep_weights: bool = False

    @property
    def runs(self) -> Path:
        """Return the folder of the runs' folders."""
        return self.root / RUNS

    def folder(self, run_id: str) -> Path:
        """Return the folder of the run `run_id`, whether or not it is there.

        Raises:
            OutputError: The id is not one file name, or something else than a folder is there.
        """
        folder = self.runs / run_id
        if not is_safe(run_id, longest=_LONGEST_ID):
            message = "id of a run that cannot be a file name"
            raise OutputError(message, value=run_id, expected="an id that a study gave")
        _refuse_no_folder(folder)
        return folder

    def prepare(self, cell: Cell) -> Path:
        """Return the folder of `cell`, with its spec.

        A spec that is there already stays, unless a power cut left it damaged.

        Raises:
            OutputError: It cannot be written.
        """
        folder = self.folder(cell.id)
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            message = f"cannot make the folder of a run ({error.strerror})"
            raise OutputError(message, value=folder, expected="room on the disk") from error
        file, spec = folder / SPEC, canonical_json(cell.spec())
        if not write_once(file, spec, synced=False) and file.read_bytes() != spec:
            write_atomic(file, spec)
        return folder

    def cell(self, run_id: str) -> Cell:
        """Return the cell of the run `run_id`, as its spec says.

        Raises:
            SchemaError: There is no spec, or it is not the one that the id was made of.
        """
        file = self.folder(run_id) / SPEC
        cell = from_plain(read_json(file, SPEC_SCHEMA), Cell, source=file)
        if cell.id != run_id:
            message = "spec that is not its run's"
            raise SchemaError(message, value=file, expected=f"the spec of {run_id}, not {cell.id}")
        return cell

    def begin(self, run_id: str) -> Lease | None:
        """Return the lease on a run to be done now; None where it is done, or another has it.

        What a former holder left of a failure or of a half-written file is removed.

        Raises:
            OutputError: The folder cannot be written.
        """
        folder = self.folder(run_id)
        if (folder / RESULT).exists():
            return None
        lease = claim(folder)
        if lease is None:
            return None
        if (folder / RESULT).exists():
            lease.release()
            return None
        for left in (*folder.glob(".*.json.*"), folder / FAILURE):
            remove(left, inside=folder)
        return lease

    def finish(
        self, run_id: str, result: Mapping[str, Any], *, lease: Lease, seconds: float
    ) -> None:
        """Write what the stage of a run found, as JSON values; the run is then done for good.

        Raises:
            LeaseError: Another has taken over; nothing is written.
            OutputError: It cannot be written.
        """
        folder = self.folder(run_id)
        record = {
            "schema": RESULT_SCHEMA,
            "run": run_id,
            "seconds": round(seconds, 3),
            "files": {name: sha256(folder / name) for name in _beside(folder)},
            "result": result,
        }
        lease.check()
        # Once alone: a holder that slept between the two lines finds the other's result here.
        write_once(folder / RESULT, canonical_json(record))

    def fail(self, run_id: str, failure: Failure, *, lease: Lease) -> None:
        """Write why a run ended without a result.

        Raises:
            LeaseError: Another has taken over; nothing is written.
            OutputError: It cannot be written.
        """
        lease.check()
        told = vars(failure) | {"message": one_line(failure.message, limit=1000)}
        if not failure.disk_full:
            del told["disk_full"]
        record = {"schema": FAILURE_SCHEMA, "run": run_id, **told}
        write_atomic(self.folder(run_id) / FAILURE, canonical_json(record))

    def state(self, run_id: str, *, now: float | None = None) -> State:
        """Return what has become of a run; `now` is given where many are looked at together."""
        folder = self.runs / run_id
        if (folder / RESULT).exists():
            return "done"
        held = is_held(folder, now=self.now() if now is None else now)
        if held:
            return "running"
        if (folder / RESULT).exists():  # Written and released between the two looks.
            return "done"
        if (folder / FAILURE).exists():
            return "failed"
        return "waiting" if held is None else "lost"

    def now(self) -> float:
        """Return the time by which leases are judged."""
        return file_system_now(self.runs)

    def begun(self) -> set[str]:
        """Return the ids of the runs that have a folder."""
        with os.scandir(self.runs) as entries:
            return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}

    def result(self, run_id: str, *, verify: bool = True) -> dict[str, Any]:
        """Return the record of a run that is done: ``run``, ``seconds``, ``files`` and ``result``.

        To `verify` is to hold the files beside it against their hashes.

        Raises:
            SchemaError: There is no result, or a file beside it is not the one that was written.
        """
        folder = self.folder(run_id)
        record = read_json(folder / RESULT, RESULT_SCHEMA)
        for name, digest in record["files"].items() if verify else ():
            file = folder / name
            if not file.is_file() or file.is_symlink() or sha256(file) != digest:
                message = "file of a finished run that is not what was written"
                hint = f"rm -r {folder}, and the study again"
                expected = f"SHA-256 {digest[:12]}…"
                raise SchemaError(message, value=file, expected=expected, hint=hint)
        return record

    def seconds(self, run_id: str) -> float:
        """Return the seconds that a run took which is done; 0 where its record does not say."""
        try:
            return float(self.result(run_id, verify=False)["seconds"])
        except (SchemaError, KeyError, TypeError, ValueError):
            return 0.0

    def failure(self, run_id: str) -> Failure:
        """Why a run ended without a result; of kind ``error`` where its record cannot be read."""
        file = self.folder(run_id) / FAILURE
        try:
            return from_plain(read_json(file, FAILURE_SCHEMA), Failure, source=file)
        except SchemaError as error:
            return Failure("error", str(error), "ledger")

    def study_plain(self) -> dict[str, Any]:
        """The study that it was last opened for, whole, as `layerwise.study.read` checked it.

        Raises:
            SchemaError: It is not there or cannot be read.
        """
        return read_json(self.root / STUDY, STUDY_SCHEMA)


def create(root: Path, study: Study) -> Ledger:
    """Return the ledger in the folder `root`, made if need be, opened for `study`.

    Raises:
        OutputError: Something else is in the way, `root` is inside another ledger or a link, or it
            cannot be written.
        SchemaError: The ledger there is of another schema, or another study's.
    """
    _refuse_place(root)
    try:
        (root / RUNS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make the ledger's folder ({error.strerror})"
        raise OutputError(message, value=root, expected="a folder", hint="--out LEDGER") from error
    about = {"schema": SCHEMA, "name": study.name, "keep_weights": study.keep_weights}
    write_once(root / ABOUT, canonical_json(about))
    ledger = open_ledger(root)
    if ledger.name != study.name:
        message = f"ledger of another study, {ledger.name}"
        hint = "another --out LEDGER, or the study's former name"
        raise SchemaError(message, value=root, expected=study.name, hint=hint)
    plain = canonical_json(study.plain)
    files = {ABOUT: canonical_json(about), STUDY: plain, TYPED: study.text or plain}
    write_files(root, files)
    return replace(ledger, keep_weights=study.keep_weights)


def open_ledger(root: Path) -> Ledger:
    """Return the ledger in the folder `root`.

    Raises:
        SchemaError: There is none, or one of another schema.
        OutputError: Its folder of runs is missing or a link.
    """
    if not is_ledger(root):
        message, expected = "no ledger of a study", "a folder that study run has made"
        hint = "layerwise study run STUDY.yaml, first"
        raise SchemaError(message, value=root, expected=expected, hint=hint)
    about = read_json(root / ABOUT, SCHEMA)
    _refuse_no_folder(root / RUNS)
    return Ledger(root.resolve(), str(about.get("name")), bool(about.get("keep_weights")))


def root_of(study: Study, out: Path | str | None) -> Path:
    """Return the folder of a study's ledger: `out`, or ``NAME-study`` where that is None."""
    return Path(f"{study.name}-study") if out is None else Path(out)


def is_ledger(root: Path) -> bool:
    """Return whether the folder `root` holds a ledger of any schema."""
    return (root / ABOUT).is_file()


def _refuse_place(root: Path) -> None:
    """Raise where no ledger can be at `root`: no folder, with other things, or inside another."""
    _refuse_no_folder(root)
    above = next((p for p in root.absolute().resolve().parents if is_ledger(p)), None)
    if above is not None:
        message = f"place inside another ledger, {above}"
        raise OutputError(message, value=root, expected="a folder outside", hint="--out LEDGER")
    others = [] if is_ledger(root) or not root.exists() else sorted(p.name for p in root.iterdir())
    if [name for name in others if name != RUNS]:
        message = f"folder that holds other things ({one_line(', '.join(others[:3]))})"
        expected = "a ledger, or a folder that is empty"
        raise OutputError(message, value=root, expected=expected, hint="--out LEDGER")


def _refuse_no_folder(path: Path) -> None:
    """Raise unless `path` is a folder or nothing at all."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        message = f"path that cannot be used ({one_line(error, limit=80)})"
        raise OutputError(message, value=path, expected="a folder", hint="--out LEDGER") from error
    if not stat.S_ISDIR(mode):
        found = "link" if stat.S_ISLNK(mode) else "file"
        message = f"{found} where a folder should be"
        hint = "the folder itself, or another --out LEDGER"
        raise OutputError(message, value=path, expected="a folder", hint=hint)


def _beside(folder: Path) -> Iterator[str]:
    """Yield the files that make up a result, in order; no link, which leads to what is not its."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            message = "link among the files of a run"
            raise LayerwiseError(message, value=path, expected="files")
        own = name.startswith((".", "lease.")) or name in {RESULT, FAILURE, OUTPUT}
        if path.is_file() and not own:
            yield name
