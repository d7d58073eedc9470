"""How far a study is: what is done, running, waiting and failed, and how long it will take."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.records import DocumentRecord, JsonRecord
from layerwise.study.expand import expand, study_from
from layerwise.study.ledger import Ledger, State, open_ledger, root_of
from layerwise.study.record import Cell, Failure, Study

_SAMPLE = 50
"""Results of one stage and model that are read for their duration before anything runs."""


@dataclass(frozen=True)
class FailedRun:
    """A run that ended without a result: its id, and what `Failure` says of it."""

    run: str
    kind: str
    message: str
    where: str


@dataclass(frozen=True)
class Status(JsonRecord, DocumentRecord):
    """How far a study is.

    Attributes:
        name: The study's.
        total: Its runs; the counts below add up to it.
        done: Those with a result.
        running: Those that a process holds.
        waiting: Those that are not begun, and can be.
        lost: Those that were begun by a process that is gone; they run again.
        blocked: Those that wait for a run that failed.
        failed: The others, by kind.
        seconds_left: How long the rest takes, from how long runs of the same stage and model took,
            as many at once as run now; None where no run is done.
        failures: Every failed run.
    """

    SCHEMA = "layerwise/status/1"
    DOCUMENT = "study_status"

    name: str
    total: int
    done: int
    running: int
    waiting: int
    lost: int
    blocked: int
    failed: Mapping[str, int]
    seconds_left: float | None
    failures: tuple[FailedRun, ...] = ()


Group = tuple[str, str]


@dataclass
class RunStates:
    """What is known of each run, kept up to date run by run.

    Attributes:
        study: The study.
        cells: The runs, by id.
        states: The state of each.
        failures: Why those that failed did.
        later: The runs that wait for one, by its id.
    """

    study: Study
    cells: dict[str, Cell] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    later: dict[str, list[str]] = field(default_factory=dict)
    _counts: Counter[State] = field(default_factory=Counter)
    _left: Counter[Group] = field(default_factory=Counter)
    _timed: Counter[Group] = field(default_factory=Counter)
    _seconds: dict[Group, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cells = {cell.id: cell for cell in self.study.cells}
        for run_id, cell in self.cells.items():
            for earlier in cell.after:
                self.later.setdefault(earlier, []).append(run_id)

    def put(self, run_id: str, state: State, failure: Failure | None = None) -> None:
        """Let a run be in `state` from now on."""
        for each, change in ((self.states.get(run_id), -1), (state, 1)):
            if each is not None:
                self._counts[each] += change
                self._left[self._group(run_id)] += change * (each not in {"done", "failed"})
        self.states[run_id] = state
        self.failures.pop(run_id, None)
        if failure is not None:
            self.failures[run_id] = failure

    def took(self, run_id: str, seconds: float) -> None:
        """Hear how long a run took."""
        group = self._group(run_id)
        self._timed[group] += 1
        self._seconds[group] = self._seconds.get(group, 0.0) + seconds

    def knows(self, run_id: str) -> bool:
        """Return whether enough runs like this one have been timed."""
        return self._timed[self._group(run_id)] >= _SAMPLE

    def status(self, *, workers: int | None = None) -> Status:
        """Return how far the study is, with `workers` at once (default: as many as run now)."""
        counts, failures = self._counts, sorted(self.failures.items())
        waiting = {run for failed in self.failures for run in self.later.get(failed, ())}
        blocked = [run for run in waiting if self.states[run] == "waiting"]
        return Status(
            name=self.study.name,
            total=len(self.states),
            done=counts["done"],
            running=counts["running"],
            waiting=counts["waiting"] - len(blocked),
            lost=counts["lost"],
            blocked=len(blocked),
            failed=dict(sorted(Counter(f.kind for _, f in failures).items())),
            seconds_left=self._seconds_left(blocked, max(1, workers or counts["running"])),
            failures=tuple(FailedRun(run, f.kind, f.message, f.where) for run, f in failures),
        )

    def _group(self, run_id: str) -> Group:
        """Return what a run's duration is told by."""
        return self.cells[run_id].stage, self.cells[run_id].model

    def _seconds_left(self, blocked: Sequence[str], workers: int) -> float | None:
        """Return the sum over what is left of the mean of its like, spread over `workers`."""
        left = self._left - Counter(map(self._group, blocked))
        if not left or not self._timed:
            return None if left else 0.0
        total = sum(count * self._mean(group) for group, count in left.items())
        return round(total / min(workers, sum(left.values())), 1)

    def _mean(self, group: Group) -> float:
        """Return the mean duration of runs of the same stage and model, else stage, else of all."""
        same = [g for g in self._timed if g == group] or [
            g for g in self._timed if g[0] == group[0]
        ]
        found = same or list(self._timed)
        return sum(self._seconds[g] for g in found) / sum(self._timed[g] for g in found)


def survey(study: Study, ledger: Ledger) -> RunStates:
    """Return what has become of each run of `study` in `ledger`.

    A failure whose record cannot be read counts as one of kind ``error`` that says so.
    """
    tally, begun, now = RunStates(study), ledger.begun(), ledger.now()
    for run_id in tally.cells:
        state = ledger.state(run_id, now=now) if run_id in begun else "waiting"
        tally.put(run_id, state, ledger.failure(run_id) if state == "failed" else None)
        if state == "done" and not tally.knows(run_id):
            tally.took(run_id, ledger.seconds(run_id))
    return tally


def status_of(source: Path | str | Mapping[str, Any], *, out: Path | str | None = None) -> Status:
    """Return how far the study `source` is, by the folder of its ledger or its file or mapping.

    Nothing is run. Of a study itself, the ledger is in the folder `out`, else ``NAME-study``.

    Raises:
        SchemaError: There is no such ledger, or one of another schema.
        BadInputError: The study cannot be read.
    """
    if not isinstance(source, Mapping) and Path(source).is_dir():
        ledger = open_ledger(Path(source))
        return survey(expand(ledger.study_plain()), ledger).status()
    found = study_from(source)
    return survey(found, open_ledger(root_of(found, out))).status()
