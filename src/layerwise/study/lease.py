"""Who may run a cell: leases that one process holds, and that others take over when it is gone.

A lease is a file ``lease.<generation>.json`` in the run's folder. A generation is made once, by a
hard link that fails where the name is taken, so of several who want to follow a holder that is
gone only one can. The holder renews its file's time; it has lost the lease as soon as there is a
later generation, which it looks for before it writes a result. Times are compared with that of a
file touched on the same file system, never with a local clock.
"""

import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from layerwise.errors import LeaseError
from layerwise.files import canonical_json, remove, write_once

TTL = 60.0
"""Seconds without renewal after which a lease is up for takeover (ours)."""

_NAME = re.compile(r"lease\.(\d{1,9})\.json")
_CLOCK = ".clock"


@dataclass(frozen=True)
class Lease:
    """The right of this process to run one cell.

    Attributes:
        folder: The run's folder.
        generation: How many held it up to this one.
        ttl: Seconds without renewal after which another may take it.
    """

    folder: Path
    generation: int
    ttl: float

    @property
    def file(self) -> Path:
        """Return the file that it is written in."""
        return self.folder / f"lease.{self.generation}.json"

    def renew(self) -> None:
        """Say that the holder still works; raise as `check` does."""
        self.check()
        os.utime(self.file)

    def check(self) -> None:
        """Raise unless this is still the last generation.

        Raises:
            LeaseError: Another has taken over, or the folder is gone.
        """
        if _last(self.folder) != self.generation:
            message = "run that another process has taken over"
            hint = "nothing: what this one did is dropped"
            raise LeaseError(message, value=self.folder.name, hint=hint)

    def release(self) -> None:
        """Give it up at once: it was not renewed since the epoch, and its number stays used."""
        with suppress(OSError):
            os.utime(self.file, (0, 0))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, a thread renews it; after, it is released."""
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(self.ttl / 4):
                with suppress(OSError):
                    try:
                        self.renew()
                    except LeaseError:  # It shows when a result is written.
                        return

        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()
            self.release()


def claim(folder: Path, *, ttl: float = TTL) -> Lease | None:
    """Return the lease on the run in `folder`; None where another holds it.

    After `ttl` seconds without renewal another may take it.

    Raises:
        OutputError: The folder cannot be written.
    """
    last = _last(folder)
    if last and _is_live(folder / f"lease.{last}.json", file_system_now(folder.parent)):
        return None
    lease = Lease(folder, last + 1, ttl)
    holder = {**_machine(), "pid": os.getpid(), "started": _started(os.getpid())}
    content = canonical_json(holder | {"ttl_seconds": ttl})
    if not write_once(lease.file, content, synced=False):
        return None
    if _last(folder) != lease.generation:  # Others came and went since the first look.
        remove(lease.file, inside=folder)
        return None
    for generation in range(max(1, last - 2), last + 1):
        remove(folder / f"lease.{generation}.json", inside=folder)
    return lease


def is_held(folder: Path, *, now: float) -> bool | None:
    """Return whether a process runs the cell in `folder`; None where none ever did."""
    last = _last(folder)
    return _is_live(folder / f"lease.{last}.json", now) if last else None


def file_system_now(folder: Path) -> float:
    """Return the time by the clock of the file system that `folder` is on, in seconds.

    Where `folder` cannot be written, this machine's.
    """
    try:
        (folder / _CLOCK).touch()
        return (folder / _CLOCK).stat().st_mtime
    except OSError:
        return time.time()


def _last(folder: Path) -> int:
    """Return the last generation in `folder`; 0 where there is none."""
    try:
        found = [_NAME.fullmatch(file.name) for file in folder.iterdir()]
    except OSError:
        return 0
    return max((int(match[1]) for match in found if match), default=0)


def _is_live(file: Path, now: float) -> bool:
    """Return whether the holder of the lease in `file` may still be at work."""
    try:
        age = now - file.lstat().st_mtime
        holder = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        holder = {}
    return age < float(holder.get("ttl_seconds", TTL)) and not _is_gone(holder)


def _is_gone(holder: Mapping[str, Any]) -> bool:
    """Return whether the holder was a process of this machine, and is no more."""
    here = _machine()
    if any(holder.get(key) != value for key, value in here.items()):
        return False
    return _started(int(holder.get("pid", 0))) != holder.get("started")


@cache
def _machine() -> dict[str, str]:
    """Return what tells a machine, since it was started, and a view of its processes apart."""
    boot, view = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "processes": str(view.readlink()) if view.is_symlink() else "",
    }


def _started(pid: int) -> str | None:
    """Return when the process `pid` began, in the system's words; None where it has ended.

    A process that was killed and whose parent has not looked yet has ended. Where the system has
    no /proc, that it is there is all that is told.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        import psutil

        return "" if not Path("/proc/self/stat").exists() and psutil.pid_exists(pid) else None
    return None if fields[0] in "ZX" else fields[19]
