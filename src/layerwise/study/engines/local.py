"""Runs as processes of this machine, each forked from one that has imported all it needs."""

import itertools
import os
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from layerwise.errors import BadInputError, LayerwiseError, one_line
from layerwise.study.engines.forker import GRACE, READY, drop_empty

LOG = "engine.log"

_THREADS = "OMP_NUM_THREADS"


class LocalEngine:
    """Runs as processes of this machine.

    The process that they are forked from is started at once, so that it imports what runs need
    while the caller prepares them. Each run gets its share of the cores (where ``OMP_NUM_THREADS``
    is not set) and of the CUDA devices. What it prints goes to ``output.txt`` in its folder.

    Args:
        ledger: The folder of the ledger.
        workers: How many runs at once; one where None.
        execute: What is done for a run, given the ledger's folder and the run's id; a function
            that can be imported by its module and name.

    Raises:
        BadInputError: There are fewer than one worker, the function cannot be imported, or the
            system cannot fork.
    """

    def __init__(
        self, ledger: Path, *, workers: int | None, execute: Callable[[Path, str], None]
    ) -> None:
        self.slots = 1 if workers is None else workers
        if not hasattr(os, "fork"):
            message = "local runs on a system that cannot fork"
            hint = "--engine ray"
            raise BadInputError(message, value=sys.platform, expected="Linux or macOS", hint=hint)
        if self.slots < 1:
            message = "workers"
            raise BadInputError(message, value=workers, expected="1 or more", hint="--workers 1")
        if "." in execute.__qualname__ or execute.__module__ == "__main__":
            message = "function of a run that cannot be imported"
            raise BadInputError(message, value=execute.__qualname__, expected="one of a module")
        self._ledger = ledger
        self._target = f"{execute.__module__}:{execute.__name__}"
        self._running: dict[str, str] = {}
        self._numbers = itertools.count()
        self._ready = False
        self._rest = b""
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = dict(os.environ)
        if self.slots > 1 and _THREADS not in environment:
            environment[_THREADS] = str(max(1, (os.cpu_count() or 1) // self.slots))
        paths = [path for path in sys.path if path]
        environment["PYTHONPATH"] = os.pathsep.join(paths)  # As here, so that `execute` is found.
        command = [sys.executable, "-m", "layerwise.study.engines.forker", self._target]
        with (self._ledger / LOG).open("ab") as log:
            return subprocess.Popen(  # noqa: S603  # our own module
                [*command, str(self._ledger)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the runner, which passes it on once.
            )

    def submit(self, run_id: str) -> None:
        """Start the run `run_id`."""
        number = str(next(self._numbers))
        self._running[number] = run_id
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # The process is gone, which `ended` will find.
                self._process.stdin.write(f"{number} {run_id}\n".encode())

    def ended(self, timeout: float) -> Sequence[str]:
        """Return the ids of the runs whose process ended, after at most `timeout` seconds.

        Raises:
            LayerwiseError: The process that runs are forked from cannot start.
        """
        output = self._process.stdout
        if not self._running or output is None:
            return ()
        if not select.select([output], [], [], timeout)[0]:
            return ()
        found = os.read(output.fileno(), 65536)
        if not found:
            return self._all_lost()
        *lines, self._rest = (self._rest + found).split(b"\n")
        told = [line.decode() for line in lines]
        self._ready = self._ready or READY in told
        return [self._running.pop(number) for number in told if number in self._running]

    def _all_lost(self) -> Sequence[str]:
        """Every run, as the process that they were forked from is gone; another takes its place."""
        self._leave()
        if not self._ready:
            log = (self._ledger / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            message = "the process that runs are forked from cannot start"
            raise LayerwiseError(
                message,
                value=one_line(log[-1] if log else "", limit=200),
                hint=str(self._ledger / LOG),
            )
        gone, self._running = list(self._running.values()), {}
        self._ready, self._rest = False, b""
        self._process = self._start()
        return gone

    def close(self) -> None:
        """Interrupt what runs, wait until it has left."""
        self._leave()
        self._running.clear()
        drop_empty(self._ledger / LOG)

    def _leave(self) -> None:
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=3 * GRACE)
        finally:
            if process.stdout is not None:
                process.stdout.close()
