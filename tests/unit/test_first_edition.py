"""Records as the first edition wrote them: they load for ever, and mean what they meant."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import layerwise as lw
from layerwise.cli import main
from layerwise.study.expand import study_from
from layerwise.study.ledger import open_ledger
from layerwise.tuning.record import TuneRecord

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "fixtures" / "first_edition"
RECORDS = {
    "card": (lw.LayerCard, "card.json"),
    "card-demo": (lw.LayerCard, "card.json"),
    "card-measured": (lw.LayerCard, "card.json"),
    "placement": (lw.Placement, "placement.json"),
    "profile": (lw.Profile, "profile.json"),
    "profile-adapter": (lw.Profile, "profile.json"),
    "control": (lw.Control, "control.json"),
    "measure": (lw.Measure, "measure.json"),
    "distance": (lw.Distance, "distance.json"),
    "probe": (lw.Probing, "probe.json"),
    "erase": (lw.Erasure, "erase.json"),
    "analysis": (lw.Analysis, "analysis.json"),
    "tune": (TuneRecord, "tune.json"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_loads_and_is_written_as_it_was(name):
    record, file = RECORDS[name]
    loaded = record.load(KEPT / name)
    written = json.loads(loaded.files()[file] if record is lw.LayerCard else loaded.to_json())
    kept = json.loads((KEPT / name / file).read_bytes())
    if kept["schema"] != written["schema"]:  # What its numbers mean has changed: it says so.
        own, old = (x["capture"] if record is lw.LayerCard else x for x in (written, kept))
        told = own.pop("notes", [])  # A condition other than frozen-lower means what it did.
        begins = ("made by an earlier rule", "residual norms are of one draw of A")
        assert name == "tune" or told[-1].startswith(begins)
        if record is lw.LayerCard:
            assert (own.pop("draws"), own.pop("residual")) == (1, "algorithm-1")
        del written["schema"], kept["schema"]
        old.pop("notes", None)
    assert written == kept


def test_a_card_has_its_arrays():
    card = lw.LayerCard.load(KEPT / "card")
    assert card.arrays
    assert card.files()["arrays.safetensors"] == (KEPT / "card/arrays.safetensors").read_bytes()


def test_an_adapter_s_profile_has_its_audit_and_a_measured_card_its_results():
    assert lw.Profile.load(KEPT / "profile-adapter").audit is not None
    assert lw.Profile.load(KEPT / "profile").audit is None
    assert lw.LayerCard.load(KEPT / "card-measured").measured


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A copy of what was kept, as the working folder."""
    folder = shutil.copytree(KEPT, tmp_path / "kept")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.skipif(np.__version__ < "2", reason="numpy 1 reads no checkpoint of numpy 2")
@pytest.mark.filterwarnings("default")  # Those of the libraries about CPUs without pinned memory.
def test_a_run_that_was_cut_short_goes_on_and_ends_as_the_whole_one(beside, capsys):
    assert list(Path("tune-cut").rglob("checkpoint-2/layerwise.json"))
    command = [
        *("tune", "llama", "texts.jsonl", "--text-column", "text", "--max-length", "16"),
        *("--device", "cpu", "--steps", "4", "--batch-size", "4", "--condition", "equal-step"),
        *("--match-steps", "2", "--save-every", "2", "--out", "tune-cut", "--format", "json"),
    ]
    assert main([*command, "--resume"]) == 0
    ended = json.loads(capsys.readouterr().out)
    whole = json.loads(Path("tune/tune.json").read_text())
    assert ended["outcome"]["resumed_from"] == 2
    assert ended["outcome"]["loss"] == pytest.approx(whole["outcome"]["loss"], rel=1e-4)


def test_a_study_has_the_ids_that_its_ledger_has(beside):
    ledger = open_ledger(beside / "study")
    cells = {cell.id: cell for cell in study_from("study.yaml").cells}
    assert cells.keys() == ledger.begun()
    assert all(ledger.cell(run_id).spec() == cells[run_id].spec() for run_id in cells)
    assert study_from(ledger.study_plain()).cells == tuple(cells.values())


def test_a_study_that_is_done_is_not_run_again(beside):
    before = {path: path.read_bytes() for path in beside.joinpath("study/runs").rglob("*.json")}
    status = lw.study("study.yaml", out="study")
    assert (status.total, status.done) == (2, 2)
    assert {path: path.read_bytes() for path in before} == before
    assert len(lw.study_tables("study")["runs"]) == 2


@pytest.mark.long
@pytest.mark.real_model
def test_the_answers_are_those_that_were_frozen(smollm2):
    """In a process of its own, as a user has it: no other test's imports, no checks of shapes."""
    script = ROOT / "frozen" / "answers.py"
    command = [sys.executable, script, "check", script.with_name("answers.json.gz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
