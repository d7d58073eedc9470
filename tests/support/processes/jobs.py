"""The work of jobs and local processes in tests in a run's place, found by name."""

import os
import signal
import sys
import threading

from layerwise.interrupts import interruptible
from layerwise.study.ledger import open_ledger
from layerwise.study.record import Failure


def finish(ledger, run_id):
    """A result at once, which says where it was made."""
    book = open_ledger(ledger)
    lease = book.begin(run_id)
    if lease is None:
        return
    found = {
        "run": run_id,
        "generation": lease.generation,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "device": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    book.finish(run_id, found, lease=lease, seconds=0.0)
    lease.release()


def speak(_ledger, run_id):
    """Words on both outputs, an empty input, and an error nobody catches."""
    sys.stdout.write(f"said {sys.stdin.read()!r}\n")
    raise ValueError(run_id)


def die(ledger, run_id):
    """The end that the system's memory guard would give it."""
    open_ledger(ledger).begin(run_id)
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(ledger, run_id):
    """Killed the first time, as by a machine that fails."""
    if not list(open_ledger(ledger).folder(run_id).glob("lease.*")):
        die(ledger, run_id)
    finish(ledger, run_id)


def kill_server(ledger, run_id):
    """The first run ends the process that all are forked from; others finish."""
    try:
        (ledger / "killed").touch(exist_ok=False)
    except FileExistsError:
        finish(ledger, run_id)
        return
    open_ledger(ledger).begin(run_id)
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def out_of_time_once(ledger, run_id):
    """Told the first time that its time is up; it says so in its folder, as the worker does."""
    if not list(open_ledger(ledger).folder(run_id).glob("lease.*")):
        wait_for_ever(ledger, run_id, lambda: os.kill(os.getpid(), signal.SIGUSR2))
    else:
        finish(ledger, run_id)


def wait_for_ever(ledger, run_id, begun=lambda: None):
    """Ends by a signal alone, and says so; calls `begun` once it is at work."""
    book = open_ledger(ledger)
    with interruptible():
        lease = book.begin(run_id)
        try:
            (book.folder(run_id) / "ready").touch()
            begun()
            while True:  # Not one long wait: Ray's way to interrupt is seen between two lines.
                threading.Event().wait(0.05)
        except SystemExit:
            book.fail(run_id, Failure("interrupted", "cancelled", "training"), lease=lease)
        finally:
            lease.release()
