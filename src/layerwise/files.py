"""Files that are whole or absent: atomic writes, whole lines, hashes, guarded output folders."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from layerwise.errors import OutputError, SchemaError, one_line

_LOG = logging.getLogger(__name__)

#: Bytes that are looked through at a time for the end of a line.
_PIECE = 4096
#: Seconds between two tries for a lock that another process has.
_POLL = 0.005


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hex digits, read in constant memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(record: Mapping[str, Any]) -> bytes:
    """Return `record` as UTF-8 JSON with a stable layout: the same record is the same bytes.

    Raises:
        ValueError: A number is NaN or infinite; JSON has neither, and a record must not hide one.
    """
    return (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path, schema: str, *older: str) -> dict[str, Any]:
    """Return the record in `path`, of `schema` (``"layerwise/card/1"``) or one of the `older`.

    Raises:
        SchemaError: The file is missing, is not JSON, or is of another schema.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        is_absent = isinstance(error, FileNotFoundError)
        msg = "no such file" if is_absent else f"unreadable record ({type(error).__name__})"
        raise SchemaError(msg, value=path, expected=f"a {schema} record") from error
    found = record.get("schema") if isinstance(record, dict) else None
    if found not in (schema, *older):
        msg = f"record of another schema in {path}"
        raise SchemaError(msg, value=found, expected=repr(schema))
    return dict(record)


def write_atomic(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        OutputError: The folder cannot be written, or the disk is full; what was there stays.
    """
    write_files(path.parent, {path.name: content})


def write_files(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write `contents` into `folder`, all in full before the first is put in place.

    The folder is made where it is not there.

    Raises:
        OutputError: The folder cannot be written, or the disk is full; what was there stays.
    """
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _writable(folder), _staged(folder, contents) as staged:
        for source, target in staged:
            source.replace(target)
    return [folder / name for name in contents]


def write_once(path: Path, content: bytes, *, synced: bool = True) -> bool:
    """Tell if `content` is now at `path`; false where something was there already, which stays.

    Of several processes that write the same path at once, one is told true. What can be made again
    after a power cut need not be `synced` to the disk, which takes a while.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    contents = {path.name: content}
    with _writable(path.parent), _staged(path.parent, contents, synced=synced) as staged:
        try:
            path.hardlink_to(staged[0][0])
        except FileExistsError:
            return False
    return True


@contextmanager
def _writable(
    place: Path, *, expected: str = "a writable folder", hint: str = "--out FOLDER", what: str = ""
) -> Iterator[None]:
    """Inside, a fault of the disk is an error of one line about `place`."""
    try:
        yield
    except OSError as error:
        msg = f"cannot write{what} ({error.strerror})"
        raise OutputError(msg, value=place, expected=expected, hint=hint) from error


@contextmanager
def _staged(
    folder: Path, contents: Mapping[str, bytes], *, synced: bool = True
) -> Iterator[list[tuple[Path, Path]]]:
    """Temporary files beside their targets, synced to disk; none is left behind on any exit."""
    staged: list[tuple[Path, Path]] = []
    try:
        for name, content in contents.items():
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
            staged.append((Path(temporary), folder / name))
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                if synced:
                    os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
        yield staged
    finally:
        for temporary_path, _ in staged:
            temporary_path.unlink(missing_ok=True)


def remove(path: Path, *, inside: Path, folders: bool = True) -> None:
    """Remove what is at `path`, a file or a whole folder, if it lies in the folder `inside`.

    Nothing else in the package removes what an earlier run left. Where a path lies is told with
    every link on the way to it resolved, so that neither ``..``, an absolute path nor a linked
    folder leads out. A link at `path` is removed itself; what it leads to stays. What is not
    removed is logged, with the reason.

    Args:
        path: What to remove; nothing need be there.
        inside: The folder beyond which nothing is touched.
        folders: Whether a folder may go with all that is in it.
    """
    try:
        if not os.path.lexists(path):
            return
        place = path.parent.resolve() / path.name
        if place.name == ".." or inside.resolve() not in place.parents:
            _LOG.warning("%s lies outside %s and is left there", path, inside)
        elif place.is_symlink() or not place.is_dir():
            place.unlink(missing_ok=True)
        elif folders:
            shutil.rmtree(place)
    except (OSError, RuntimeError, ValueError) as error:  # A loop of links; no path at all.
        _LOG.warning("%s is left there (%s)", path, one_line(error, limit=120))


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add `record` to the end of `path` as one line of JSON, on disk when this returns.

    Several processes may add to one file. What a killed one left unfinished is cut off first.

    Raises:
        OutputError: The file cannot be written.
    """
    line = json.dumps(record, allow_nan=False) + "\n"
    with _alone(path) as stream:
        stream.truncate(_whole(stream))
        stream.seek(0, os.SEEK_END)
        stream.write(line.encode())
        stream.flush()
        os.fsync(stream.fileno())


def lock_of(path: Path) -> Path:
    """Return the file that `append_line` holds while it writes to `path`; it stays there."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for this process alone."""
    from filelock import FileLock

    with _writable(path, expected="a file that you may write", hint=""):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock_of(path)).acquire(poll_interval=_POLL):
            path.touch()
            with path.open("r+b") as stream:
                yield stream


def _whole(stream: BinaryIO) -> int:
    """Return the number of bytes up to the end of the last whole line."""
    end = stream.seek(0, os.SEEK_END)
    while end:
        start = stream.seek(max(0, end - _PIECE))
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def whole_lines(path: Path) -> list[bytes]:
    """Give the lines of `path` without an unfinished last one; none where there is no such file."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1].splitlines()


#: Files of a model or an adapter, which results would be written over or beside.
_OF_MODELS = ("config.json", "adapter_*", "tokenizer*", "model*.safetensors", "*.bin", "*.gguf")


def _others_model(folder: Path) -> Path | None:
    """Return a file of a model in `folder`; None where there is none, or a record of layerwise."""
    found = next((file for pattern in _OF_MODELS for file in folder.glob(pattern)), None)
    if found is None or (folder / "log.jsonl").exists():
        return None
    for file in folder.glob("*.json"):
        if file.is_file():
            with file.open("rb") as opened:  # A record says what it is at its beginning.
                if b'"layerwise/' in opened.read(80):
                    return None
    return found


def prepare_output(folder: Path, *, holds: str, overwrite: bool, beside: str = "") -> Path:
    """Give `folder`, found writable before any work is spent on its content; it is left as it was.

    A folder that is not there is made by what writes into it: a run that is refused leaves none.

    Args:
        folder: Where results will go.
        holds: The file whose presence means that a result already lies there (``"card.json"``).
        overwrite: Whether that result may be replaced.
        beside: A file that comes with a result of any kind: without `holds`, it is another's.

    Raises:
        OutputError: It cannot be made or written; it holds a result and `overwrite` is false; or it
            holds a model or an adapter that layerwise did not write.
    """
    told = {"what": " to the output folder", "expected": "a folder that you may write"}
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with _writable(folder, **told):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            others = _others_model(folder)
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
    if others:
        msg, expected = "output folder holds a model that is of no run", "an empty folder"
        raise OutputError(msg, value=others, expected=expected, hint="another --out FOLDER")
    found = [name for name in (holds, beside) if name and (folder / name).exists()]
    if found and not overwrite:
        msg = f"output folder already holds a {found[0]}"
        raise OutputError(
            msg,
            value=folder,
            expected="an empty folder",
            hint="--overwrite to replace it, or another --out FOLDER",
        )
    return folder
