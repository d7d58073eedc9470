"""The ledger: what is written when, what has become of a run, and what is refused."""

import json
from pathlib import Path

import pytest

from layerwise.errors import LayerwiseError, LeaseError, OutputError, SchemaError
from layerwise.study.ledger import Ledger, create, is_ledger, open_ledger, root_of
from layerwise.study.record import Cell, Failure, Study
from support.studies import end

CELL = Cell("tune", "bert", "simcse", "lora", None, 0, {"source": "demo"})
STUDY = Study("pocket", (CELL,), plain={"schema": "layerwise/study/1"}, text=b"typed: 1\n")


@pytest.fixture
def ledger(tmp_path):
    return create(tmp_path / "ledger", STUDY)


@pytest.fixture
def folder(ledger):
    """The folder of the run, with its spec."""
    return ledger.prepare(CELL)


def test_a_ledger_says_what_it_is(ledger, tmp_path):
    root = tmp_path / "ledger"
    about = json.loads((root / "ledger.json").read_text())
    assert about == {"schema": "layerwise/ledger/1", "name": "pocket", "keep_weights": False}
    assert (root / "study.yaml").read_bytes() == b"typed: 1\n"
    assert ledger.study_plain() == STUDY.plain
    assert open_ledger(root) == ledger
    assert is_ledger(root)


def test_a_ledger_is_opened_again_and_may_keep_weights_from_then_on(ledger, tmp_path):
    again = create(tmp_path / "ledger", Study("pocket", (CELL,), keep_weights=True))
    assert again == Ledger(ledger.root, "pocket", keep_weights=True)
    assert open_ledger(tmp_path / "ledger").keep_weights


def test_its_usual_place_is_named_after_the_study():
    assert str(root_of(STUDY, None)) == "pocket-study"
    assert str(root_of(STUDY, "x")) == "x"


def test_the_life_of_a_run(ledger):
    assert ledger.begun() == set()
    assert ledger.state(CELL.id) == "waiting"
    folder = ledger.prepare(CELL)
    assert [path.name for path in folder.iterdir()] == ["spec.json"]
    assert ledger.begun() == {CELL.id}
    assert ledger.state(CELL.id) == "waiting"
    assert ledger.cell(CELL.id) == CELL
    lease = ledger.begin(CELL.id)
    assert ledger.state(CELL.id) == "running"
    assert ledger.begin(CELL.id) is None
    (folder / "profile.json").write_text("{}")
    ledger.finish(CELL.id, {"slope": 1.5}, lease=lease, seconds=2.0004)
    assert ledger.state(CELL.id) == "done"
    lease.release()
    assert ledger.state(CELL.id) == "done"
    record = ledger.result(CELL.id)
    assert record["result"] == {"slope": 1.5}
    assert set(record["files"]) == {"profile.json", "spec.json"}
    assert ledger.seconds(CELL.id) == 2.0
    assert ledger.begin(CELL.id) is None


def test_a_run_that_is_left_is_lost(ledger, folder):
    ledger.begin(CELL.id).release()
    assert ledger.state(CELL.id) == "lost"


def test_a_failure_stays_until_the_run_begins_again(ledger, folder):
    end(ledger, CELL, Failure("oom", "too\nlarge", "training"))
    assert ledger.state(CELL.id) == "failed"
    assert ledger.failure(CELL.id) == Failure("oom", "too large", "training")
    (folder / ".spec.json.x1").write_text("half")
    ledger.begin(CELL.id).release()
    assert ledger.state(CELL.id) == "lost"
    assert not (folder / ".spec.json.x1").exists()


def test_who_lost_the_lease_writes_nothing(ledger, folder):
    first = ledger.begin(CELL.id)
    first.release()
    second = ledger.begin(CELL.id)
    with pytest.raises(LeaseError, match="taken over"):
        ledger.finish(CELL.id, {}, lease=first, seconds=1)
    with pytest.raises(LeaseError, match="taken over"):
        ledger.fail(CELL.id, Failure("error", "x", "y"), lease=first)
    assert ledger.state(CELL.id) == "running"
    ledger.finish(CELL.id, {"mine": 2}, lease=second, seconds=1)
    ledger.finish(CELL.id, {"mine": 3}, lease=second, seconds=1)
    assert ledger.result(CELL.id)["result"] == {"mine": 2}


def test_a_result_that_came_while_waiting_for_the_lease_is_kept(ledger, folder, monkeypatch):
    from layerwise.study import ledger as module

    claim = module.claim

    def late(folder):
        (folder / "result.json").write_text("{}")
        return claim(folder)

    monkeypatch.setattr(module, "claim", late)
    assert ledger.begin(CELL.id) is None
    assert ledger.state(CELL.id) == "done"


@pytest.mark.parametrize("change", ["flip", "remove", "link"])
def test_a_file_that_is_not_what_was_written_is_found(ledger, folder, change):
    (folder / "model").mkdir()
    file = folder / "model" / "weights"
    file.write_bytes(b"123")
    end(ledger, CELL, {})
    assert set(ledger.result(CELL.id)["files"]) == {"model/weights", "spec.json"}
    if change == "flip":
        file.write_bytes(b"133")
    else:
        file.rename(folder / "elsewhere")
    if change == "link":
        file.symlink_to(folder / "elsewhere")
    with pytest.raises(SchemaError, match=r"not what was written: '.*weights'; expected SHA-256"):
        ledger.result(CELL.id)
    assert ledger.result(CELL.id, verify=False)["run"] == CELL.id


def test_a_link_is_no_part_of_a_result(ledger, folder, tmp_path):
    (tmp_path / "secret").write_text("x")
    (folder / "log.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(LayerwiseError, match="link among the files of a run"):
        ledger.finish(CELL.id, {}, lease=ledger.begin(CELL.id), seconds=1)
    assert ledger.state(CELL.id) == "running"


def test_a_spec_of_another_run_is_refused(ledger, folder):
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps(spec | {"seed": 1}))
    with pytest.raises(SchemaError, match="spec that is not its run's"):
        ledger.cell(CELL.id)
    del spec["seed"]
    (folder / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(SchemaError, match=r"malformed record \(seed: Field required\)"):
        ledger.cell(CELL.id)
    ledger.prepare(CELL)
    assert ledger.cell(CELL.id) == CELL


def test_records_that_cannot_be_read_are_told_as_such(ledger, folder):
    (folder / "failure.json").write_text("{")
    assert ledger.failure(CELL.id).kind == "error"
    (folder / "failure.json").write_text('{"schema": "layerwise/failure/1", "kind": "odd"}')
    assert ledger.failure(CELL.id).kind == "error"
    (folder / "result.json").write_text("{")
    assert ledger.seconds(CELL.id) == 0.0
    with pytest.raises(SchemaError, match="unreadable record"):
        ledger.result(CELL.id)
    (ledger.root / "study.json").unlink()
    with pytest.raises(SchemaError, match="no such file"):
        ledger.study_plain()


@pytest.mark.parametrize("name", ["../up", "a\0b", "", "x" * 300])  # See test_names.py.
def test_an_id_leads_nowhere_else(ledger, name):
    with pytest.raises(OutputError, match="id of a run that cannot be a file name"):
        ledger.folder(name)


def test_a_run_s_folder_that_is_a_link_is_refused(ledger, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (ledger.runs / CELL.id).symlink_to(outside)
    for act in (ledger.prepare, lambda cell: ledger.begin(cell.id)):
        with pytest.raises(OutputError, match="link where a folder should be"):
            act(CELL)
    assert ledger.begun() == set()
    assert list(outside.iterdir()) == []


def test_a_spec_that_is_a_link_is_not_followed(ledger, tmp_path):
    (tmp_path / "target").write_text("mine")
    (ledger.runs / CELL.id).mkdir()
    (ledger.runs / CELL.id / "spec.json").symlink_to(tmp_path / "target")
    ledger.prepare(CELL)
    assert (tmp_path / "target").read_text() == "mine"
    assert ledger.cell(CELL.id) == CELL


def refused(root, match, error=OutputError, study=STUDY):
    before = sorted(root.parent.rglob("*"))
    with pytest.raises(error, match=match):
        create(root, study)
    assert sorted(root.parent.rglob("*")) == before


def test_places_that_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "file where a folder should be")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    refused(tmp_path / "link", "link where a folder should be")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    refused(tmp_path / "full", r"folder that holds other things \(thesis.tex\)")
    refused(tmp_path / ("x" * 300), r"path that cannot be used \(.*File name too long")
    refused(tmp_path / "file" / "below", "path that cannot be used|cannot make")
    with pytest.raises(OutputError, match="path that cannot be used"):
        create(tmp_path / "a\0b", STUDY)


def test_a_place_inside_another_ledger_is_refused(ledger, tmp_path):
    refused(ledger.root / "inner", "place inside another ledger")
    refused(ledger.runs / CELL.id / "deep", "place inside another ledger")
    (tmp_path / "way").symlink_to(ledger.runs)
    refused(tmp_path / "way" / "inner", "place inside another ledger")


def test_a_ledger_of_another_schema_or_study_is_refused(ledger):
    about = ledger.root / "ledger.json"
    refused(ledger.root, "ledger of another study, pocket", SchemaError, Study("other", (CELL,)))
    about.write_text('{"schema": "layerwise/ledger/2", "name": "pocket"}')
    with pytest.raises(SchemaError, match="record of another schema"):
        create(ledger.root, STUDY)
    with pytest.raises(SchemaError, match="record of another schema"):
        open_ledger(ledger.root)


def test_a_ledger_whose_runs_are_elsewhere_is_refused(ledger, tmp_path):
    ledger.runs.rmdir()
    ledger.runs.symlink_to(tmp_path)
    with pytest.raises(OutputError, match="link where a folder should be"):
        open_ledger(ledger.root)


def test_nothing_there_is_no_ledger(tmp_path):
    assert not is_ledger(tmp_path)
    with pytest.raises(SchemaError, match="no ledger of a study"):
        open_ledger(tmp_path)


def test_a_folder_that_cannot_be_made_is_said():
    with pytest.raises(OutputError, match="cannot make the ledger's folder"):
        create(Path("/proc/none/ledger"), STUDY)
