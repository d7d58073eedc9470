"""Runs as tasks of a Ray cluster: of the machine's own, or of one that is named by its address.

The ledger is on a path that every node sees, and layerwise is installed on every node. Ray retries
a task whose worker or node is lost; the run's lease keeps a worker that was only thought to be lost
from doing it beside the retry, which then ends at once, and the runner looks again.
"""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError, LayerwiseError, one_line
from layerwise.extras import require

log = logging.getLogger(__name__)

PATIENCE = 15.0
"""Seconds in which a cluster must answer."""

RETRIES = 3
"""Times that Ray starts a run anew whose worker or node is lost."""

GRACE = 30.0
"""Seconds that runs have to end after they were interrupted (ours)."""

_REFRESH = 5.0
"""Seconds after which the cluster is asked for its size again: nodes come and go."""

_CONNECT = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"


class RayEngine:
    """Runs as tasks of a Ray cluster.

    Args:
        ledger: The folder of the ledger.
        workers: How many runs at once; None takes as many as the cluster has room for at the time.
        execute: What is done for a run, given the ledger's folder and the run's id; a function that
            every node can import.
        address: Of the cluster: ``HOST:PORT``, ``ray://HOST:PORT``, or ``auto`` for one that runs
            on this machine. None starts one on this machine, and stops it at the end.
        cpus: Cores of a run.
        gpus: GPUs of a run; None asks for one where the cluster has any. A run that asks for none
            sees none.

    Raises:
        BadInputError: Ray is not installed, no cluster answers, or it has no room for a run.
    """

    def __init__(
        self,
        ledger: Path,
        *,
        workers: int | None = None,
        execute: Callable[[Path, str], None],
        address: str | None = None,
        cpus: float = 1,
        gpus: float | None = None,
    ) -> None:
        self._ray = require("ray", extra="ray", purpose="run a study on a Ray cluster")
        self._ledger, self._workers = ledger.resolve(), workers
        self._own = not self._ray.is_initialized()
        if self._own:
            _connect(self._ray, address)
        if gpus is None:
            gpus = 1 if self._ray.cluster_resources().get("GPU") else 0
        self._needs = {"CPU": cpus, "GPU": gpus}
        self._task = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(execute)
        self._running: dict[Any, str] = {}
        self._asked = time.monotonic()
        room = self._room()
        if not room:
            self.close()
            message = "cluster without room for a run"
            needs = ", ".join(f"{name}: {n:g}" for name, n in self._needs.items() if n)
            raise BadInputError(message, value=address or "local", expected=needs)
        self.slots = workers or room

    def _room(self) -> int:
        """Return the number of runs that the cluster has room for, were it idle."""
        there = self._ray.cluster_resources()
        return int(min(there.get(name, 0) // n for name, n in self._needs.items() if n))

    def submit(self, run_id: str) -> None:
        """Start the run `run_id`."""
        task = self._task.options(name=run_id)
        self._running[task.remote(self._ledger, run_id)] = run_id

    def ended(self, timeout: float) -> Sequence[str]:
        """Return the ids of the runs whose task ended, after at most `timeout` seconds."""
        if self._workers is None and time.monotonic() - self._asked > _REFRESH:
            self._asked = time.monotonic()
            self.slots = self._room() or self.slots  # Between two nodes there may be none.
        if not self._running or not self._gone(timeout, at_least=1):
            return ()
        ended = []
        for task in self._gone(0, at_least=len(self._running)):
            ended.append(self._running.pop(task))
            try:
                self._ray.get(task)
            except self._ray.exceptions.RayError as error:  # What the run did not tell itself.
                log.warning("%s: %s", ended[-1], one_line(error))
        return ended

    def _gone(self, timeout: float, *, at_least: int) -> Sequence[Any]:
        """Return the tasks that ended, so many within `timeout` seconds if they do."""
        found: Sequence[Any]
        tasks = list(self._running)
        found, _ = self._ray.wait(tasks, num_returns=at_least, timeout=timeout, fetch_local=False)
        return found

    def close(self) -> None:
        """Interrupt what runs, wait until it has left, and leave the cluster."""
        if not self._ray.is_initialized():
            return
        for is_forced in (False, True):
            for task in self._running:
                self._ray.cancel(task, force=is_forced)
            if self._running:
                for task in self._gone(GRACE, at_least=len(self._running)):
                    del self._running[task]
        self._running.clear()
        if self._own:
            self._ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    """Connect this process to the cluster at `address`; to one of its own where None."""
    if address is not None:
        _refuse_silent(address)
    options = {"include_dashboard": False} if address is None else {"address": address}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        message = f"Ray cannot be started ({one_line(error, limit=200)})"
        raise LayerwiseError(message, value=address or "local") from error


def _refuse_silent(address: str) -> None:
    """Raise unless a cluster answers at `address`.

    Tried in a process of its own: from one that does not answer, Ray does not come back.
    """
    command = [sys.executable, "-c", _CONNECT, address]
    try:
        said = subprocess.run(  # noqa: S603  # our own words; the address is no command
            command, capture_output=True, timeout=PATIENCE, check=False, text=True
        )
    except subprocess.TimeoutExpired:
        reason = f"none within {PATIENCE:g} s"
    else:
        if said.returncode == 0:
            return
        last = said.stderr.strip().splitlines()[-1:]
        reason = one_line(last[0] if last else f"exit status {said.returncode}", limit=200)
    message = f"Ray cluster that does not answer ({reason})"
    hint = "ray start --head on one machine, and its HOST:PORT; or no address for one of your own"
    raise BadInputError(message, value=address, expected="HOST:PORT, or auto", hint=hint)
