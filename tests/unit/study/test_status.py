"""How far a study is: counts that add up, and a time left that follows from what was."""

import json

import pytest
import yaml

from layerwise.errors import BadInputError, SchemaError
from layerwise.study.expand import study_from
from layerwise.study.ledger import create
from layerwise.study.record import Failure
from layerwise.study.status import status_of, survey
from support.studies import end, matrix

PLAIN = matrix(models={"a": "x", "b": "y"}, conditions=["standard", "lora"], seeds=[0, 1, 2])
STUDY = study_from(PLAIN)


@pytest.fixture
def ledger(tmp_path):
    return create(tmp_path / "ledger", STUDY)


def test_nothing_has_begun(ledger):
    status = survey(STUDY, ledger).status()
    assert (status.total, status.waiting, status.done) == (12, 12, 0)
    assert status.seconds_left is None


def test_counts_add_up(ledger):
    cells = STUDY.cells
    end(ledger, cells[0], {}, seconds=10)
    for cell in cells[1:3]:
        ledger.prepare(cell)
        lease = ledger.begin(cell.id)
    lease.release()
    for cell, kind in zip(cells[3:6], ["oom", "oom", "diverged"], strict=True):
        end(ledger, cell, Failure(kind, "why", "training"))
    status = survey(STUDY, ledger).status()
    assert (status.done, status.running, status.lost, status.waiting) == (1, 1, 1, 6)
    assert status.failed == {"diverged": 1, "oom": 2}
    assert {f.run for f in status.failures} == {cell.id for cell in cells[3:6]}
    record = json.loads(status.to_json())
    assert record["schema"] == "layerwise/status/1"
    assert record["done"] == 1


def test_time_left_is_that_of_the_like_spread_over_who_works(ledger):
    mine = [cell for cell in STUDY.cells if cell.model == "a"]
    other = next(cell for cell in STUDY.cells if cell.model == "b")
    end(ledger, mine[0], {}, seconds=10)
    end(ledger, mine[1], {}, seconds=20)
    tally = survey(STUDY, ledger)
    assert tally.status().seconds_left == 4 * 15 + 6 * 15
    end(ledger, other, {}, seconds=100)
    tally = survey(STUDY, ledger)
    assert tally.status().seconds_left == 4 * 15 + 5 * 100
    assert tally.status(workers=2).seconds_left == (4 * 15 + 5 * 100) / 2
    assert tally.status(workers=100).seconds_left == pytest.approx((4 * 15 + 5 * 100) / 9, abs=0.1)


def test_nothing_is_left_when_all_is_done(ledger):
    for cell in STUDY.cells:
        end(ledger, cell, {}, seconds=1)
    status = survey(STUDY, ledger).status()
    assert (status.done, status.seconds_left) == (12, 0.0)


def test_a_status_is_of_a_ledger_or_a_study(ledger, tmp_path, monkeypatch):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(PLAIN))
    expected = status_of(ledger.root)
    assert expected.total == 12
    assert status_of(str(file), out=ledger.root) == expected
    assert status_of(PLAIN, out=ledger.root) == expected
    ledger.root.rename(tmp_path / "matrix-study")
    monkeypatch.chdir(tmp_path)
    assert status_of("study.yaml") == expected


def test_a_status_writes_nothing(ledger):
    status_of(ledger.root)
    before = {p: p.stat().st_mtime_ns for p in ledger.root.rglob("*") if p.name != ".clock"}
    status_of(ledger.root)
    after = {p: p.stat().st_mtime_ns for p in ledger.root.rglob("*") if p.name != ".clock"}
    assert after == before


def test_no_ledger_and_no_study_are_said(tmp_path):
    with pytest.raises(SchemaError, match=r"no ledger of a study.*try: layerwise study run"):
        status_of(tmp_path)
    with pytest.raises(BadInputError, match="cannot read the study"):
        status_of(tmp_path / "none.yaml")
