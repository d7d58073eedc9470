"""The loop over an engine: order, dependencies, what is run again, and what is left alone."""

from collections import Counter

import pytest

from layerwise.errors import OutputError
from layerwise.study.engines import Engine
from layerwise.study.expand import study_from
from layerwise.study.ledger import create
from layerwise.study.record import Failure
from layerwise.study.runner import RESUBMITTED, run
from support.studies import MADE, end, matrix

DONE = {"number": 1}
FULL = Failure("interrupted", "cannot write", "training", disk_full=True)


class Here:
    """An engine in this process: runs end when they are waited for, the oldest first.

    Args:
        ledger: The ledger.
        become: For a run's id, what becomes of it each time: a result, a failure, or None where
            its process is gone without a word. The last stays.
        slots: How many at once.
    """

    def __init__(self, ledger, *, become=lambda _id: [DONE], slots=1):
        self.ledger, self.slots, self.become = ledger, slots, become
        self.submitted, self.waiting, self.closed, self.most = [], [], 0, 0

    def submit(self, run_id):
        self.submitted.append(run_id)
        self.waiting.append(run_id)
        self.most = max(self.most, len(self.waiting))

    def ended(self, timeout):  # noqa: ARG002  # as engines have it
        run_id = self.waiting.pop(0)
        lease = self.ledger.begin(run_id)
        times = self.submitted.count(run_id) - 1
        all_times = self.become(run_id)
        outcome = all_times[min(times, len(all_times) - 1)]
        if isinstance(outcome, dict):
            self.ledger.finish(run_id, outcome, lease=lease, seconds=1.0)
        elif isinstance(outcome, Failure):
            self.ledger.fail(run_id, outcome, lease=lease)
        elif outcome is not None:
            raise outcome
        lease.release()
        return [run_id]

    def close(self):
        self.closed += 1


STUDY = study_from(matrix(models={"a": "x", "made": MADE}, seeds=[0, 1]))
FIRST, LAST = STUDY.cells[0], STUDY.cells[-1]


@pytest.fixture
def ledger(tmp_path):
    return create(tmp_path / "ledger", STUDY)


def test_engines_are_told_apart_by_what_they_can_do(ledger):
    assert isinstance(Here(ledger), Engine)
    assert not isinstance(object(), Engine)


def test_everything_runs_once_and_the_engine_is_closed(ledger):
    engine = Here(ledger, slots=2)
    status = run(STUDY, ledger, engine)
    assert (status.done, status.total) == (6, 6)
    assert sorted(engine.submitted) == sorted(c.id for c in STUDY.cells)
    assert (engine.closed, engine.most) == (1, 2)


def test_runs_come_after_those_that_they_need(ledger):
    engine = Here(ledger, slots=4)
    run(STUDY, ledger, engine)
    order = {run_id: i for i, run_id in enumerate(engine.submitted)}
    assert all(order[c.after[0]] < order[c.id] for c in STUDY.cells if c.after)


def test_what_has_a_result_is_left_alone(ledger):
    run(STUDY, ledger, Here(ledger))
    again = Here(ledger)
    assert run(STUDY, ledger, again).done == 6
    assert again.submitted == []


def test_what_waits_for_a_failed_run_stays_where_it_is(ledger):
    failure = Failure("diverged", "loss is nan", "training")
    broken = FIRST.id
    engine = Here(ledger, become=lambda run_id: [failure if run_id == broken else DONE])
    status = run(STUDY, ledger, engine)
    assert (status.done, status.blocked, dict(status.failed)) == (4, 1, {"diverged": 1})
    assert [(f.run, f.kind, f.message) for f in status.failures] == [
        (broken, "diverged", "loss is nan")
    ]
    assert len(engine.submitted) == 5


def test_failed_runs_run_again_when_asked_for(ledger):
    failure = Failure("oom", "too large", "training")
    assert dict(run(STUDY, ledger, Here(ledger, become=lambda _: [failure])).failed) == {"oom": 4}
    left = Here(ledger)
    assert run(STUDY, ledger, left).done == 0
    assert left.submitted == []
    asked = Here(ledger)
    assert run(STUDY, ledger, asked, retry_failed=True).done == 6


def test_a_failed_run_that_fails_again_is_not_tried_for_ever(ledger):
    failure = Failure("error", "no", "training")
    run(STUDY, ledger, Here(ledger, become=lambda _: [failure]))
    engine = Here(ledger, become=lambda _: [failure])
    assert dict(run(STUDY, ledger, engine, retry_failed=True).failed) == {"error": 4}
    assert len(engine.submitted) == 4


@pytest.mark.parametrize("end", [None, Failure("interrupted", "interrupted", "training")])
def test_lost_and_interrupted_runs_are_submitted_again_three_times(ledger, end):
    engine = Here(ledger, become=lambda _: [end] * RESUBMITTED + [DONE])
    assert run(STUDY, ledger, engine).done == 6
    assert set(Counter(engine.submitted).values()) == {4}


def test_a_run_that_is_lost_too_often_fails(ledger):
    engine = Here(ledger, become=lambda _: [None])
    status = run(STUDY, ledger, engine)
    assert dict(status.failed) == {"error": 4}
    assert "ended 4 times without a word" in status.failures[0].message
    assert set(Counter(engine.submitted).values()) == {4}
    assert ledger.failure(status.failures[0].run).kind == "error"


def test_interrupted_runs_go_on_at_the_next_start(ledger):
    end = Failure("interrupted", "interrupted", "training")
    run(STUDY, ledger, Here(ledger, become=lambda _: [end]))
    assert run(STUDY, ledger, Here(ledger)).done == 6


def test_a_full_disk_stops_the_study_which_then_goes_on(ledger):
    engine = Here(ledger, become=lambda _: [FULL])
    with pytest.raises(OutputError, match=r"no room on the disk of the ledger.*it goes on where"):
        run(STUDY, ledger, engine)
    assert (len(engine.submitted), engine.closed) == (1, 1)
    assert run(STUDY, ledger, Here(ledger)).done == 6


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(130)])
def test_an_interrupt_closes_the_engine(ledger, error):
    engine = Here(ledger, become=lambda _: [error])
    with pytest.raises(type(error)):
        run(STUDY, ledger, engine)
    assert engine.closed == 1


def test_a_run_that_another_holds_is_waited_for(ledger):
    ledger.prepare(FIRST)
    lease = ledger.begin(FIRST.id)
    heard = []

    def hear(status):
        heard.append(status.running)
        if status.done == 3:  # All that needs nothing of it.
            ledger.finish(FIRST.id, DONE, lease=lease, seconds=1.0)
            lease.release()

    engine = Here(ledger)
    assert run(STUDY, ledger, engine, on_change=hear).done == 6
    assert FIRST.id not in engine.submitted
    assert heard[0] == 1


def test_a_run_whose_other_holder_leaves_is_taken_over(ledger):
    ledger.prepare(FIRST)
    lease = ledger.begin(FIRST.id)
    engine = Here(ledger)

    def hear(status):
        if status.done == 3:
            lease.release()

    assert run(STUDY, ledger, engine, on_change=hear).done == 6
    assert engine.submitted.count(FIRST.id) == 1


def test_what_another_does_in_the_meantime_is_not_done_again(ledger):
    engine = Here(ledger)

    def hear(status):
        if status.done == 1 and ledger.state(LAST.id) == "waiting":
            end(ledger, LAST, DONE)

    assert run(STUDY, ledger, engine, on_change=hear).done == 6
    assert LAST.id not in engine.submitted


def test_every_change_is_heard(ledger):
    heard = []
    run(STUDY, ledger, Here(ledger), on_change=heard.append)
    assert [s.done for s in heard if s.running == 0] == list(range(7))
    assert {s.total for s in heard} == {6}
    assert heard[0].seconds_left is None
    assert heard[-1].seconds_left == 0.0
