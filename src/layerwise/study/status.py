"""How far a study is: what is done, running, waiting and failed, and how long it will take."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.records import DocumentRecord, JsonRecord
from layerwise.study.expand import expand, study_from
from layerwise.study.ledger import Ledger, State, open_ledger, root_of
from layerwise.study.record import Cell, Failure, Study

__all__ = ["FailedRun", "RunStates", "Status", "status_of", "survey", "unheard"]

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
        states: The state of each run.
        failures: Why those that failed did.
        later: The runs that wait for one, by its id.
    """

    study: Study
    states: dict[str, State] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    later: dict[str, list[str]] = field(default_factory=dict)
    _groups: dict[str, Group] = field(default_factory=dict)
    _counts: Counter[State] = field(default_factory=Counter)
    _left: Counter[Group] = field(default_factory=Counter)
    _timed: Counter[Group] = field(default_factory=Counter)
    _seconds: defaultdict[Group, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        for cell in self.study.cells:
            self._groups[cell.id] = (cell.stage, cell.model)
            for earlier in cell.after:
                self.later.setdefault(earlier, []).append(cell.id)

    def put(self, cell: Cell, state: State, failure: Failure | None = None) -> None:
        """Let `cell` be in `state` from now on."""
        former, group = self.states.get(cell.id), self._groups[cell.id]
        if former is not None:
            self._counts[former] -= 1
            self._left[group] -= _is_left(former)
        self.states[cell.id] = state
        self._counts[state] += 1
        self._left[group] += _is_left(state)
        self.failures.pop(cell.id, None)
        if failure is not None:
            self.failures[cell.id] = failure

    def took(self, cell: Cell, seconds: float) -> None:
        """Hear how long `cell` took."""
        group = (cell.stage, cell.model)
        self._timed[group] += 1
        self._seconds[group] += seconds

    def knows(self, cell: Cell) -> bool:
        """Return whether enough runs like `cell` have been timed."""
        return self._timed[cell.stage, cell.model] >= _SAMPLE

    def status(self, *, workers: int | None = None) -> Status:
        """Return how far the study is, with `workers` at once (default: as many as run now)."""
        counts, blocked = self._counts, len(self._blocked())
        return Status(
            name=self.study.name,
            total=len(self.states),
            done=counts["done"],
            running=counts["running"],
            waiting=counts["waiting"] - blocked,
            lost=counts["lost"],
            blocked=blocked,
            failed=dict(sorted(Counter(f.kind for f in self.failures.values()).items())),
            seconds_left=self._seconds_left(max(1, workers or counts["running"])),
            failures=tuple(
                FailedRun(run, f.kind, f.message, f.where)
                for run, f in sorted(self.failures.items())
            ),
        )

    def _blocked(self) -> set[str]:
        """Return the runs that wait for one that failed."""
        waiting = {run for failed in self.failures for run in self.later.get(failed, ())}
        return {run for run in waiting if self.states[run] == "waiting"}

    def _seconds_left(self, workers: int) -> float | None:
        """Return the sum over what is left of the mean of its like, spread over `workers`."""
        left = self._left - Counter(self._groups[run] for run in self._blocked())
        if not left:
            return 0.0
        if not self._timed:
            return None
        total = sum(count * self._mean(group) for group, count in left.items())
        return round(total / min(workers, sum(left.values())), 1)

    def _mean(self, group: Group) -> float:
        """The mean duration of runs like `group`: of its stage and model, its stage, or all."""
        for like in (lambda g: g == group, lambda g: g[0] == group[0], lambda _: True):
            found = [g for g in self._timed if like(g)]
            if found:
                return sum(self._seconds[g] for g in found) / sum(self._timed[g] for g in found)
        return 0.0


def _is_left(state: State) -> bool:
    return state in {"waiting", "running", "lost"}


def survey(study: Study, ledger: Ledger) -> RunStates:
    """Return what has become of each run of `study` in `ledger`.

    A failure whose record cannot be read counts as one of kind ``error`` that says so.
    """
    tally, begun, now = RunStates(study), ledger.begun(), ledger.now()
    for cell in study.cells:
        state = ledger.state(cell.id, now=now) if cell.id in begun else "waiting"
        tally.put(cell, state, ledger.failure(cell.id) if state == "failed" else None)
        if state == "done" and not tally.knows(cell):
            tally.took(cell, ledger.seconds(cell.id))
    return tally


def status_of(source: Path | str | Mapping[str, Any], *, out: Path | str | None = None) -> Status:
    """Return how far a study is; nothing is run.

    Args:
        source: The folder of its ledger, or the study itself: a YAML file or a mapping.
        out: The folder of its ledger where `source` is the study; ``NAME-study`` where None.

    Raises:
        SchemaError: There is no such ledger, or one of another schema.
        BadInputError: The study cannot be read.
    """
    if not isinstance(source, Mapping) and Path(source).is_dir():
        ledger = open_ledger(Path(source))
        return survey(expand(ledger.study_plain()), ledger).status()
    found = study_from(source)
    return survey(found, open_ledger(root_of(found, out))).status()


def unheard(status: Status) -> None:
    """Nothing: what a study tells when nobody listens."""
    del status
