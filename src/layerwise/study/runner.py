"""The one loop behind every engine: what can run is submitted, and what became of it is read."""

import heapq
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Never

from layerwise.errors import OutputError
from layerwise.study.engines import Engine
from layerwise.study.ledger import Ledger
from layerwise.study.record import Cell, Failure, Study
from layerwise.study.status import RunStates, Status, survey, unheard

__all__ = ["RESUBMITTED", "run"]

log = logging.getLogger(__name__)

RESUBMITTED = 3
"""Times that a run is submitted again after the process that had it was lost."""

#: Seconds between two looks at a run that another runner has: at first, at most, and the growth.
_SOONEST, _LATEST, _GROWTH = 0.25, 10.0, 1.5

_PATIENCE = 60.0
"""Seconds that an engine is waited for before the loop looks around."""


def run(
    study: Study,
    ledger: Ledger,
    engine: Engine,
    *,
    retry_failed: bool = False,
    on_change: Callable[[Status], None] = unheard,
) -> Status:
    """Run what can run of `study`, and return how far it is then.

    Runs with a result are left alone. Runs that were lost or interrupted, or that a full disk
    ended, are run again; failed ones where that is asked for. Several runners may work on one
    ledger: a run that another holds is waited for.

    Args:
        study: The study.
        ledger: Where its runs are kept.
        engine: Where they happen; closed on any exit, which interrupts what still runs.
        retry_failed: Whether runs that failed before are run again.
        on_change: Hears how far the study is whenever that changes.

    Raises:
        OutputError: The ledger cannot be written: the disk is full. The study can go on later.
    """
    try:
        work = _RunQueue(survey(study, ledger), ledger, engine, on_change)
        work.begin(retry_failed=retry_failed)
        while work.step():
            pass
        return work.status()
    finally:
        engine.close()


@dataclass
class _RunQueue:
    """One runner's view of a study.

    Attributes:
        tally: What is known of each run.
        ready: Runs that can be submitted, in order.
        again: Those of them that run although they failed before.
        submitted: Runs that the engine has.
        elsewhere: Runs that another process holds, as (when to look, pause, id).
        lost: How often each was lost here.
    """

    tally: RunStates
    ledger: Ledger
    engine: Engine
    on_change: Callable[[Status], None]
    cells: dict[str, Cell] = field(default_factory=dict)
    ready: deque[str] = field(default_factory=deque)
    again: set[str] = field(default_factory=set)
    submitted: set[str] = field(default_factory=set)
    elsewhere: list[tuple[float, float, str]] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)

    def begin(self, *, retry_failed: bool) -> None:
        """Sort what is there into what can run now, later, and not at all."""
        self.cells = {cell.id: cell for cell in self.tally.study.cells}
        for run_id, state in list(self.tally.states.items()):
            failure = self.tally.failures.get(run_id)
            if failure and (retry_failed or _runs_again(failure)):
                self.again.add(run_id)
                self.tally.put(self.cells[run_id], "waiting")
            if state == "running":
                self._wait_for(run_id)
            elif state not in {"done", "failed"} or run_id in self.again:
                self._make_ready(run_id)
        self._changed()

    def step(self) -> bool:
        """Submit what fits, wait for something to end; return whether there was anything to do."""
        self._submit()
        if not self.submitted and not self.elsewhere:
            return bool(self.ready)
        for run_id in self._ended():
            self.submitted.discard(run_id)
            self._settle(run_id, _SOONEST)
        while self.elsewhere and self.elsewhere[0][0] <= time.monotonic():
            _, waited, run_id = heapq.heappop(self.elsewhere)
            self._settle(run_id, min(_LATEST, waited * _GROWTH))
        return True

    def _ended(self) -> Sequence[str]:
        """Return the runs of the engine that ended, after a wait until the next look elsewhere."""
        pause = self.elsewhere[0][0] - time.monotonic() if self.elsewhere else _PATIENCE
        if self.submitted:
            return self.engine.ended(max(0.0, pause))
        time.sleep(max(0.0, pause))
        return ()

    def status(self) -> Status:
        """Return how far the study is."""
        return self.tally.status(workers=self.engine.slots)

    def _changed(self) -> None:
        self.on_change(self.status())

    def _submit(self) -> None:
        """Hand the engine as many runs as it takes."""
        while self.ready and len(self.submitted) < self.engine.slots:
            run_id = self.ready.popleft()
            if not self._is_free(run_id):
                continue
            self.ledger.prepare(self.cells[run_id])
            self.again.discard(run_id)
            self.submitted.add(run_id)
            self.tally.put(self.cells[run_id], "running")
            self.engine.submit(run_id)
            self._changed()

    def _is_free(self, run_id: str) -> bool:
        """Return whether a run is still to be done; where another took it, that is settled."""
        state = self.ledger.state(run_id)
        if state == "failed" and run_id not in self.again:
            free = _runs_again(self.ledger.failure(run_id))
        else:
            free = state not in {"done", "running"}
        if not free:
            self._settle(run_id, _SOONEST)
        return free

    def _settle(self, run_id: str, pause: float) -> None:
        """Take in what became of a run that ended, or that another process had.

        Args:
            run_id: The run.
            pause: Seconds until the next look, where a process still has it.
        """
        cell, state = self.cells[run_id], self.ledger.state(run_id)
        failure = self.ledger.failure(run_id) if state == "failed" else None
        if state == "running":
            self._wait_for(run_id, pause)
            return
        if state == "done":
            self.tally.took(cell, self.ledger.seconds(run_id))
            self.tally.put(cell, "done")
            for later in self.tally.later.get(run_id, ()):
                self._make_ready(later)
        elif failure is not None and failure.disk_full:
            self.tally.put(cell, state, failure)
            _stop_full(self.ledger)
        elif failure is not None and failure.kind != "interrupted":
            self.tally.put(cell, state, failure)
            log.warning("%s failed (%s): %s", run_id, failure.kind, failure.message)
        else:
            self._resubmit(cell, failure)
        self._changed()

    def _resubmit(self, cell: Cell, failure: Failure | None) -> None:
        """Run a lost or interrupted run again, unless that has happened too often."""
        self.lost[cell.id] += 1
        if self.lost[cell.id] <= RESUBMITTED:
            log.warning("%s was lost and runs again", cell.id)
            self.tally.put(cell, "waiting")
            self.ready.appendleft(cell.id)
            return
        if failure is None:
            failure = _lost(self.lost[cell.id])
            lease = self.ledger.begin(cell.id)
            if lease is None:  # Another process wants to try, or was faster.
                self._wait_for(cell.id)
                return
            self.ledger.fail(cell.id, failure, lease=lease)
            lease.release()
        self.tally.put(cell, "failed", failure)
        log.warning("%s failed (%s): %s", cell.id, failure.kind, failure.message)

    def _make_ready(self, run_id: str) -> None:
        """Queue a run, unless it waits for another."""
        cell = self.cells[run_id]
        is_open = self.tally.states[run_id] in {"waiting", "lost"}
        if is_open and all(self.tally.states.get(a) == "done" for a in cell.after):
            self.ready.append(run_id)

    def _wait_for(self, run_id: str, pause: float = _SOONEST) -> None:
        """Look again after `pause` seconds at a run that another process holds."""
        self.tally.put(self.cells[run_id], "running")
        heapq.heappush(self.elsewhere, (time.monotonic() + pause, pause, run_id))


def _runs_again(failure: Failure) -> bool:
    """Return whether a run that ended so is run again without being asked for."""
    return failure.kind == "interrupted"


def _lost(times: int) -> Failure:
    message = (
        f"the process that ran it ended {times} times without a word: "
        "killed, out of memory, or its machine was lost"
    )
    return Failure("error", message, "process")


def _stop_full(ledger: Ledger) -> Never:
    """Say that there is no room for the study to go on.

    Raises:
        OutputError: Always.
    """
    message = "no room on the disk of the ledger"
    hint = "free space, and run the study again: it goes on where it was"
    raise OutputError(message, value=ledger.root, expected="room on the disk", hint=hint)
