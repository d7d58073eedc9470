"""Runs as jobs of SLURM, through submitit: what is submitted together is one job array.

The ledger is on a path that every node sees. A job that reaches its time limit, or is preempted, is
interrupted shortly before, keeps its last checkpoint, and is submitted again by the runner. Jobs go
on when the runner is gone: it finds what they did when it is run again.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError, LayerwiseError, one_line
from layerwise.extras import require

log = logging.getLogger(__name__)

JOBS = "jobs"
"""The folder, in the ledger, of what jobs print."""

GRACE = 60.0
"""Seconds that jobs have to end after they were cancelled (ours)."""

_LOOK = 1.0
"""Seconds between two looks at the jobs; submitit asks SLURM less often."""


class SlurmEngine:
    """Runs as jobs of SLURM.

    Args:
        ledger: The folder of the ledger.
        workers: How many jobs at once, waiting ones counted; one where None.
        execute: What is done for a run, given the ledger's folder and the run's id; a function that
            every node can import.
        partition: Where a job goes; the cluster's own choice where None.
        minutes: How long it may take (ours: a day).
        cpus: Its cores.
        gpus: Its GPUs; none where None.
        memory_gb: Its main memory; the partition's usual where None.
        cluster: ``slurm``, or ``local`` for processes of this machine under the same regime.

    Raises:
        BadInputError: submitit is not installed, or there is no SLURM here.
    """

    def __init__(  # noqa: PLR0913  # what a cluster is asked for
        self,
        ledger: Path,
        *,
        workers: int | None,
        execute: Callable[[Path, str], None],
        partition: str | None = None,
        minutes: int = 1440,
        cpus: int = 1,
        gpus: int | None = None,
        memory_gb: float | None = None,
        cluster: str = "slurm",
    ) -> None:
        self.slots = workers or 1
        self._ledger, self._execute = ledger.resolve(), execute
        self._executor = _executor(self._ledger / JOBS, cluster)
        self._executor.update_parameters(
            name="layerwise",
            timeout_min=minutes,
            cpus_per_task=cpus,
            gpus_per_node=gpus,
            mem_gb=memory_gb,
            slurm_partition=partition,
            slurm_array_parallelism=self.slots,
        )
        self._waiting: list[str] = []
        self._jobs: dict[str, Any] = {}

    def submit(self, run_id: str) -> None:
        """Start the run `run_id`, together with those that come before `ended` is asked."""
        self._waiting.append(run_id)

    def ended(self, timeout: float) -> Sequence[str]:
        """Return the ids of the runs whose job ended, after at most `timeout` seconds.

        Raises:
            LayerwiseError: SLURM does not take a job.
        """
        if self._waiting:
            self._hand_over()
        until = time.monotonic() + timeout
        while True:
            gone = [run_id for run_id, job in self._jobs.items() if self._is_gone(job)]
            for run_id in gone:
                del self._jobs[run_id]
            left = until - time.monotonic()
            if gone or left <= 0 or not self._jobs:
                return gone
            threading.Event().wait(min(_LOOK, left))

    def _hand_over(self) -> None:
        """Submit what waits, as one array."""
        work, place, ids = self._execute, self._ledger, self._waiting
        try:
            with self._executor.batch():
                made = [self._executor.submit(_work, work, place, run_id) for run_id in ids]
        except (OSError, RuntimeError) as error:
            message = f"SLURM does not take a job ({one_line(error, limit=300)})"
            raise LayerwiseError(message, value=ids[0]) from error
        self._jobs |= dict(zip(ids, made, strict=True))
        self._waiting = []

    def _is_gone(self, job: Any) -> bool:
        """Return whether `job` has ended; one that SLURM cannot be asked about has not."""
        try:
            return bool(job.done())
        except (OSError, RuntimeError) as error:
            log.warning("SLURM does not say what became of %s: %s", job.job_id, one_line(error))
            return False

    def close(self) -> None:
        """Cancel the jobs, and wait until they have left."""
        self._waiting.clear()
        for job in self._jobs.values():
            with suppress(OSError, RuntimeError):
                job.cancel(check=False)
        until = time.monotonic() + GRACE
        while self._jobs and time.monotonic() < until:
            self.ended(until - time.monotonic())
        self._jobs.clear()


def _executor(folder: Path, cluster: str) -> Any:
    """Return the executor of submitit; raise where there is no such cluster."""
    submitit = require("submitit", extra="slurm", purpose="run a study on SLURM")
    folder.mkdir(exist_ok=True)
    try:
        return submitit.AutoExecutor(folder=folder, cluster=cluster)
    except RuntimeError as error:
        message = f"no SLURM on this machine ({one_line(error, limit=120)})"
        hint = "run it where sbatch is, or --engine local"
        raise BadInputError(message, value=cluster, hint=hint) from error


def _work(execute: Callable[[Path, str], None], ledger: Path, run_id: str) -> None:
    """Do a run as a job; the signal before its time is up interrupts it as any other would."""
    signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    execute(ledger, run_id)
