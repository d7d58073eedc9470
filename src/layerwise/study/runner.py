"""The one loop behind every engine: what can run is submitted, and what became of it is read."""

import heapq
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from layerwise.errors import OutputError
from layerwise.study.engines import Engine
from layerwise.study.ledger import Ledger
from layerwise.study.record import Failure, Study
from layerwise.study.status import RunStates, Status, survey

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
    on_change: Callable[[Status], None] | None = None,
) -> Status:
    """Run what can run of `study`, and return how far it is then.

    Runs with a result are left alone. Runs that were lost or interrupted, or that a full disk
    ended, are run again; failed ones where that is asked for. Several runners may work on one
    ledger: a run that another holds is waited for. The engine is closed on any exit, which
    interrupts what still runs; `on_change` hears how far the study is whenever that changes.

    Raises:
        OutputError: The ledger cannot be written: the disk is full. The study can go on later.
    """
    try:
        hears = on_change or (lambda _status: None)
        work = _RunQueue(survey(study, ledger), ledger, engine, hears)
        work.begin(retry_failed=retry_failed)
        while work.step():
            pass
        return work.status()
    finally:
        engine.close()


@dataclass
class _RunQueue:
    """One runner's view of a study: `tally` is what is known of each run.

    Of runs that can be submitted, `ready` holds the order and `again` those that run although they
    failed before; the engine has those `submitted`, another process those `elsewhere`, as (when to
    look, pause, id). `lost` counts how often each was lost here.
    """

    tally: RunStates
    ledger: Ledger
    engine: Engine
    on_change: Callable[[Status], None]
    ready: deque[str] = field(default_factory=deque)
    again: set[str] = field(default_factory=set)
    submitted: set[str] = field(default_factory=set)
    elsewhere: list[tuple[float, float, str]] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)

    def begin(self, *, retry_failed: bool) -> None:
        """Sort what is there into what can run now, later, and not at all."""
        for run_id, state in list(self.tally.states.items()):
            failure = self.tally.failures.get(run_id)
            if failure and (retry_failed or failure.kind == "interrupted"):
                self.again.add(run_id)
                self.tally.put(run_id, "waiting")
            if state == "running":
                self._wait_for(run_id)
            elif state not in {"done", "failed"} or run_id in self.again:
                self._make_ready(run_id)
        self.on_change(self.status())

    def step(self) -> bool:
        """Submit what fits, wait for something to end; return whether there was anything to do."""
        while self.ready and len(self.submitted) < self.engine.slots:
            self._submit(self.ready.popleft())
        if not self.submitted and not self.elsewhere:
            return bool(self.ready)
        pause = max(0.0, self.elsewhere[0][0] - time.monotonic()) if self.elsewhere else _PATIENCE
        if self.submitted:
            for run_id in self.engine.ended(pause):
                self.submitted.discard(run_id)
                self._settle(run_id)
        else:
            time.sleep(pause)
        while self.elsewhere and self.elsewhere[0][0] <= time.monotonic():
            _, waited, run_id = heapq.heappop(self.elsewhere)
            self._settle(run_id, min(_LATEST, waited * _GROWTH))
        return True

    def status(self) -> Status:
        """Return how far the study is."""
        return self.tally.status(workers=self.engine.slots)

    def _submit(self, run_id: str) -> None:
        """Hand the engine a run that is still to be done; where another took it, settle that."""
        state = self.ledger.state(run_id)
        is_free = state not in {"done", "running"}
        if state == "failed" and run_id not in self.again:
            is_free = self.ledger.failure(run_id).kind == "interrupted"
        if not is_free:
            self._settle(run_id)
            return
        self.ledger.prepare(self.tally.cells[run_id])
        self.again.discard(run_id)
        self.submitted.add(run_id)
        self.tally.put(run_id, "running")
        self.engine.submit(run_id)
        self.on_change(self.status())

    def _settle(self, run_id: str, pause: float = _SOONEST) -> None:
        """Take in what became of a run that ended, or that another process had.

        One that a process still has is looked at again after `pause` seconds.
        """
        state = self.ledger.state(run_id)
        failure = self.ledger.failure(run_id) if state == "failed" else None
        if state == "running":
            self._wait_for(run_id, pause)
            return
        if state == "done":
            self.tally.took(run_id, self.ledger.seconds(run_id))
            self.tally.put(run_id, "done")
            for later in self.tally.later.get(run_id, ()):
                self._make_ready(later)
        elif failure is not None and failure.disk_full:
            self.tally.put(run_id, "failed", failure)
            message = "no room on the disk of the ledger"
            hint = "free space, and run the study again: it goes on where it was"
            place = self.ledger.root
            raise OutputError(message, value=place, expected="room on the disk", hint=hint)
        elif failure is not None and failure.kind != "interrupted":
            self._failed(run_id, failure)
        else:
            self._resubmit(run_id, failure)
        self.on_change(self.status())

    def _resubmit(self, run_id: str, failure: Failure | None) -> None:
        """Run a lost or interrupted run again, unless that has happened too often."""
        self.lost[run_id] += 1
        if self.lost[run_id] <= RESUBMITTED:
            log.warning("%s was lost and runs again", run_id)
            self.tally.put(run_id, "waiting")
            self.ready.appendleft(run_id)
            return
        if failure is None:
            message = (
                f"the process that ran it ended {self.lost[run_id]} times without a word: "
                "killed, out of memory, or its machine was lost"
            )
            failure = Failure("error", message, "process")
            lease = self.ledger.begin(run_id)
            if lease is None:  # Another process wants to try, or was faster.
                self._wait_for(run_id)
                return
            self.ledger.fail(run_id, failure, lease=lease)
            lease.release()
        self._failed(run_id, failure)

    def _failed(self, run_id: str, failure: Failure) -> None:
        self.tally.put(run_id, "failed", failure)
        log.warning("%s failed (%s): %s", run_id, failure.kind, failure.message)

    def _make_ready(self, run_id: str) -> None:
        """Queue a run, unless it waits for another."""
        is_open = self.tally.states[run_id] in {"waiting", "lost"}
        before = self.tally.cells[run_id].after
        if is_open and all(self.tally.states.get(each) == "done" for each in before):
            self.ready.append(run_id)

    def _wait_for(self, run_id: str, pause: float = _SOONEST) -> None:
        """Look again after `pause` seconds at a run that another process holds."""
        self.tally.put(run_id, "running")
        heapq.heappush(self.elsewhere, (time.monotonic() + pause, pause, run_id))
