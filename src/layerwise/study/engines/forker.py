"""The process that `LocalEngine` starts once: it imports what runs need, then forks for each.

A child for the next run is always there, waiting for its id: a fork of a process with so much in
memory takes a while, in which the run before is still at work.

`multiprocessing`'s own server is not used, as it runs the user's main module again in every
process, and knows nothing of whose death should end whom: here runs end when the engine's process
does, however it does.

Standard input takes runs, a line each: a number that no other has, and the id. Its end interrupts
every run. Standard output says ``ready`` once, then the number of each run that ended. A run that
is over and holds no GPU says so itself, as taking apart so much memory takes a while too; it is
said again when its process is gone.
"""

import ctypes
import gc
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Never

from layerwise.files import remove
from layerwise.study.ledger import OUTPUT, RUNS

READY = "ready"

GRACE = 30.0
"""Seconds that a run has to end after it was interrupted, before it is killed (ours)."""

_PR_SET_PDEATHSIG = 1

Execute = Callable[[Path, str], None]


def main(arguments: Sequence[str]) -> None:
    """Work until standard input ends; `arguments` are MODULE:FUNCTION and the ledger's folder."""
    module, _, name = arguments[0].partition(":")
    execute: Execute = getattr(import_module(module), name)
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What a library prints is no report.
    gc.collect()
    gc.freeze()  # Pages of what was imported stay shared with the children.
    report.write(READY + "\n")
    _Forker(execute, Path(arguments[1]), report, _devices()).serve()


@dataclass(frozen=True)
class _Child:
    """A process at work: its run, under the number that the engine gave it, and its place."""

    number: str
    run_id: str
    place: int


@dataclass
class _Forker:
    """The server: children do `execute`, and their ends are told in `report`.

    Runs are spread over `devices` of CUDA, none where there is one or none. `children` are at work,
    by process id; `spare` is the one for the next run, and the pipe that it waits at; `rest` is the
    begin of a line that has not come in full.
    """

    execute: Execute
    ledger: Path
    report: IO[str]
    devices: Sequence[str]
    children: dict[int, _Child] = field(default_factory=dict)
    rest: bytes = b""
    spare: tuple[int, int] | None = None

    def serve(self) -> None:
        """Fork for every line that comes, tell of every child that ends; interrupt all at last."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.spare = self._spare()
        while not stopped:
            readable, _, _ = select.select([0, woken], [], [])
            if woken in readable:
                os.read(woken, 4096)
                self._reap()
            if 0 in readable and not self._read():
                break
        self._end()

    def _read(self) -> bool:
        """Fork a child for each line of standard input; return whether it goes on."""
        found = os.read(0, 65536)
        *lines, self.rest = (self.rest + found).split(b"\n")
        for line in lines:
            number, _, run_id = line.decode().partition(" ")
            self._fork(number, run_id)
        return bool(found)

    def _fork(self, number: str, run_id: str) -> None:
        """Give the child that waits its run, and fork the one for the next."""
        taken = {child.place for child in self.children.values()}
        place = next(i for i in range(len(taken) + 1) if i not in taken)
        is_taken = False
        while not is_taken:
            pid, pipe = self.spare or self._spare()
            with suppress(BrokenPipeError):  # The one that waited was killed.
                os.write(pipe, f"{place} {number} {run_id}".encode())
                self.children[pid] = _Child(number, run_id, place)
                is_taken = True
            os.close(pipe)
            self.spare = None
        self.spare = self._spare()

    def _spare(self) -> tuple[int, int]:
        """Return a child that waits for an order, and the end of the pipe that takes it."""
        parent, (order, pipe) = os.getpid(), os.pipe()
        pid = os.fork()
        if not pid:
            os.close(pipe)
            self._child(order, parent)
        os.close(order)
        return pid, pipe

    def _child(self, order: int, parent: int) -> Never:
        """Wait for a run and do it in this process, which ends with it."""
        status = 1
        try:
            _die_with(parent)
            for usual in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(usual, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(-1)
            found = os.read(order, 4096).decode().split(" ")
            if len(found) == 3:  # Nothing comes where no run is left.
                place, number, run_id = found
                if self.devices:
                    os.environ["CUDA_VISIBLE_DEVICES"] = self.devices[
                        int(place) % len(self.devices)
                    ]
                _speak_into(self.ledger / RUNS / run_id / OUTPUT)
                self.execute(self.ledger, run_id)
                torch = sys.modules.get("torch")
                if torch is None or not torch.cuda.is_initialized():  # Its memory may be needed.
                    self.report.write(number + "\n")
            status = 0
        except BaseException:  # noqa: BLE001  # whatever it is, this process ends here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        """Tell of each child that has ended."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self.children.pop(pid, None)
            if child is not None:
                drop_empty(self.ledger / RUNS / child.run_id / OUTPUT)
                self.report.write(child.number + "\n")

    def _end(self) -> None:
        """Interrupt every child, and kill those that do not end in time."""
        if self.spare is not None:
            os.close(self.spare[1])
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
            for pid in self.children:
                os.kill(pid, number)
            until = time.monotonic() + patience
            while self.children and time.monotonic() < until:
                try:
                    self._reap()
                except OSError:  # Nobody is there to be told.
                    self.report = Path(os.devnull).open("w")  # noqa: SIM115  # to the end
                time.sleep(0.01)


def _die_with(parent: int) -> None:
    """Let this process be interrupted when its parent is gone, where the system can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # It was gone before.
            os._exit(1)


def _speak_into(file: Path) -> None:
    """Let standard output and error of this process go to the end of `file`, input be empty."""
    silence = os.open(os.devnull, os.O_RDONLY)
    said = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    for opened, number in ((silence, 0), (said, 1), (said, 2)):
        os.dup2(opened, number)


def drop_empty(file: Path) -> None:
    """Remove `file` where nothing was said in it."""
    with suppress(OSError):
        if file.stat().st_size == 0:
            remove(file, inside=file.parent)


def _devices() -> tuple[str, ...]:
    """The CUDA devices of this machine where there are several, told without touching them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        found = tuple(name.strip() for name in named.split(",") if name.strip())
    else:
        known = Path("/proc/driver/nvidia/gpus")
        found = tuple(map(str, range(len(list(known.iterdir()))))) if known.is_dir() else ()
    return found if len(found) > 1 else ()


if __name__ == "__main__":
    main(sys.argv[1:])
