"""One run of a study in this process: claimed, done, and its result or failure written."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from layerwise.errors import (
    BadInputError,
    LayerwiseError,
    LeaseError,
    NonFiniteError,
    OutputError,
    SchemaError,
    one_line,
)
from layerwise.files import remove
from layerwise.interrupts import INTERRUPTED, interruptible
from layerwise.resources import disk_full, out_of_memory
from layerwise.study.checker import refuse_unknown
from layerwise.study.lease import Lease
from layerwise.study.ledger import Ledger, open_ledger
from layerwise.study.record import Failure, FailureKind
from layerwise.study.shrink import within_memory
from layerwise.study.stages import STAGES, load
from layerwise.study.tasks import Task
from layerwise.tuning.run import has_checkpoint
from layerwise.tuning.steps import CHECKPOINTS

log = logging.getLogger(__name__)

load()  # Once, before runs are forked from the process that imports this.


def execute_trusting(ledger: Path, run_id: str) -> None:
    """Do as `execute`, and run the code that a model's repository brings.

    Whoever started the study said so: it is in no file, so no file can make a run trust.
    """
    execute(ledger, run_id, trusts=True)


def execute(ledger: Path, run_id: str, *, trusts: bool = False) -> None:
    """Do a run, if it is to be done and no other process does it.

    Its folder tells how it ended: with a result, with a failure, or with neither where the process
    was killed or nothing could be written. What a process before had reached is taken up. Only
    where it `trusts`, code that a model's repository brings runs.

    Raises:
        SchemaError: There is no ledger.
        OutputError: The run's folder cannot be written.
    """
    book = open_ledger(Path(ledger))
    with interruptible() as came:
        lease = book.begin(run_id)
        if lease is None:
            log.info("%s is done, or another process does it", run_id)
            return
        with lease.kept():
            _do(book, run_id, lease, came, trusts=trusts)


def _do(book: Ledger, run_id: str, lease: Lease, came: Callable[[], bool], *, trusts: bool) -> None:
    """Do the run that `lease` is for; `came` tells whether a signal did."""
    began, parts = time.monotonic(), ["reading"]

    def begins(part: str) -> None:
        lease.check()
        parts.append(part)
        if came():  # A library may have taken the exception for its own.
            raise SystemExit(INTERRUPTED)

    try:
        found = _found(book, run_id, begins, trusts=trusts)
        begins("result")
        book.finish(run_id, found, lease=lease, seconds=time.monotonic() - began)
    except LeaseError as error:
        log.warning("%s", error)
    except BaseException as error:  # However a run ends, its folder says how.
        kind = _kind(error, is_interrupted=came())
        failure = Failure(kind, _told(error), parts[-1], disk_full(error))
        log.warning("%s: %s", run_id, failure.message, exc_info=failure.kind == "error")
        with suppress(LeaseError, OutputError):  # Then it counts as lost.
            book.fail(run_id, failure, lease=lease)


def _found(
    book: Ledger, run_id: str, begins: Callable[[str], None], *, trusts: bool
) -> Mapping[str, Any]:
    """Return what the run's stage found, its micro-batch halved as often as memory needs."""
    cell = book.cell(run_id)
    stage, task = STAGES[cell.stage], Task(cell, book, trusts=trusts, begins=begins)
    refuse_unknown(stage.name, stage.settings, cell.settings)

    def work(halvings: int) -> Mapping[str, Any]:
        try:
            return stage.run(replace(task, halvings=halvings))
        except SchemaError as error:
            if not has_checkpoint(task.folder):
                raise
            log.warning("the run begins anew: %s", error)
        remove(task.folder / CHECKPOINTS, inside=task.folder)
        return stage.run(replace(task, halvings=halvings))

    return within_memory(work, task.folder)


def _kind(error: BaseException, *, is_interrupted: bool) -> FailureKind:
    """Why a run ended, as its record says it.

    A disk that is full or cannot be written is not the run's fault: as after a signal, it is run
    again without asking.
    """
    stopped = isinstance(error, KeyboardInterrupt | SystemExit | OutputError)
    if is_interrupted or stopped or disk_full(error):
        return "interrupted"
    if out_of_memory(error):
        return "oom"
    if isinstance(error, NonFiniteError):
        return "diverged"
    return "bad-input" if isinstance(error, BadInputError) else "error"


def _told(error: BaseException) -> str:
    """Return what a record says of `error`: one line."""
    if isinstance(error, LayerwiseError):
        return error.message
    said = one_line(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
