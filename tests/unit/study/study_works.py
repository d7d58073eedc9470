"""What local runs do in tests: found by its name, as a run's process imports it."""

import os
import signal
import sys
import threading

from layerwise.interrupts import interruptible
from layerwise.study.ledger import open_ledger
from layerwise.study.record import Failure


def finishes(root, run_id):
    """A result that says where it was made."""
    ledger = open_ledger(root)
    lease = ledger.begin(run_id)
    if lease is None:
        return
    found = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "device": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    ledger.finish(run_id, found, lease=lease, seconds=0.0)


def speaks(root, run_id):
    """Words on both outputs, an empty input, and an error nobody catches."""
    sys.stdout.write(f"said {sys.stdin.read()!r}\n")
    raise ValueError(run_id)


def is_killed(root, run_id):
    """The end that the system's memory guard would give it."""
    open_ledger(root).begin(run_id)
    os.kill(os.getpid(), signal.SIGKILL)


def kills_server(root, run_id):
    """The first run ends the process that all are forked from; others finish."""
    ledger = open_ledger(root)
    mark = root / "killed"
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        finishes(root, run_id)
        return
    ledger.begin(run_id)
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def waits(root, run_id):
    """Goes on until it is interrupted, and says so."""
    ledger = open_ledger(root)
    with interruptible():
        lease = ledger.begin(run_id)
        with lease.kept():
            try:
                (ledger.folder(run_id) / "ready").touch()
                threading.Event().wait()
            except SystemExit:
                ledger.fail(run_id, Failure("interrupted", "stopped", "here"), lease=lease)
                raise
