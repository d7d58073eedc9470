"""`layerwise measure` from the command line."""

import json
import shutil

import pytest

from layerwise.card.record import LayerCard
from layerwise.measure.record import Measure

SMALL = [
    *("--text-column", "text", "--max-length", "16", "--batch-size", "4", "--steps", "2"),
    *("--eval-examples", "4", "--ladder", "1e-2", "--seeds", "0,1,2", "--draws", "1", "-k", "1"),
]


@pytest.fixture
def card(card_folder, tmp_path):
    """A copy of the model's card, which the command adds to."""
    return shutil.copytree(card_folder, tmp_path / "card")


def test_a_leaderboard_is_written_and_added_to_the_card(
    run, model_folder, text_file, card, tmp_path
):
    out = tmp_path / "out"
    said = run("measure", model_folder, text_file, *SMALL, "--card", card, "--out", out)
    assert said.code == 0, said.err
    made = Measure.load(out)
    (measured,) = LayerCard.load(card).measured
    assert [r.name for r in measured.regimes] == [a.name for a in made.arms if a.outcome]
    assert {"recommended", "uniform", "eva", "random-0", "all"} <= {
        r.name for r in measured.regimes
    }
    assert made.budget.rank == LayerCard.load(card).capture.rank == 2
    report = (card / "report.html").read_text()
    assert "1 block at rank 2, 2 steps, 3 seeds" in report
    assert "random-0" in report
    assert measured.finding in report
    assert "the default until" not in report
    said = run("place", card, "--out", tmp_path / "placed")
    assert "layerwise measure compared adapters of rank 2 on 1 block" in said.out.replace("\n", " ")
    refused = run("place", card, "--reference", card, "--overwrite")
    assert (refused.code, "measured no difference" in refused.err) == (2, True)
    told = json.loads((card / "card.json").read_text())
    told["measured"][-1]["verdict"] = "better"
    (card / "card.json").write_text(json.dumps(told))
    assert run("place", card, "--reference", card, "--overwrite").code == 0
    best = json.loads((card / "placement.json").read_text())
    assert "by the reference on" in best["notes"][-1]


def test_a_placement_of_the_card_stays_in_its_report(run, model_folder, text_file, card, tmp_path):
    assert run("place", card, "--policy", "last", "-k", 1, "--overwrite").code == 0
    args = [*SMALL, "--arms", "uniform", "--card", card, "--out", tmp_path / "out"]
    assert run("measure", model_folder, text_file, *args).code == 0
    report = (card / "report.html").read_text()
    assert "Policy last adapts" in report
    assert "Fine-tuned placements" in report


@pytest.mark.parametrize(
    ("content", "told"),
    [("{}", "placement.json"), (None, "placement.json is not by this card, and not in its report")],
)
def test_a_placement_of_another_card_is_not_drawn(
    run, model_folder, text_file, card, tmp_path, content, told
):
    assert run("place", card, "--policy", "last", "-k", 1, "--overwrite").code == 0
    file = card / "placement.json"
    plain = json.loads(file.read_text())
    plain["cost"]["step_ratio"] /= 2
    file.write_text(content or json.dumps(plain))
    args = [*SMALL, "--arms", "uniform", "--card", card, "--out", tmp_path / "out"]
    said = run("measure", model_folder, text_file, *args)
    assert said.code == 0
    assert told in said.err
    report = (card / "report.html").read_text()
    assert "Policy last adapts" not in report
    assert "Fine-tuned placements" in report


def test_generated_text_is_a_quality(run, model_folder, text_file, tmp_path):
    args = [*SMALL, "--prompt-column", "question", "--quality", "chrf", "--arms", "uniform"]
    more = ["--out", tmp_path, "--charts", "--format", "quiet"]
    assert run("measure", model_folder, text_file, *args, *more).code == 0
    assert (tmp_path / "chart-leaderboard.svg").exists()
    made = Measure.load(tmp_path)
    assert made.quality == "chrf"
    assert all(trial.quality_after is not None for arm in made.arms for trial in arm.trials)


def test_several_processes_are_refused(run, model_folder, text_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = run("measure", model_folder, text_file, *SMALL, "--out", tmp_path / "out")
    assert "processes that were launched together: '2'; expected one" in said.error


def test_trials_of_a_run_cut_short_are_taken_up(run, model_folder, text_file, tmp_path):
    out = tmp_path / "out"
    args = [model_folder, text_file, *SMALL, "--arms", "uniform", "--out", out]
    whole = run("measure", *args, "--format", "json")
    assert whole.code == 0, whole.err
    (out / "measure.json").unlink()
    (out / "report.html").unlink()
    (out / "trials.jsonl").write_text("")
    said = run("measure", *args)
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert "--resume" in said.err
    assert run("measure", *args, "--resume").code == 0
    assert {path.name for path in out.iterdir()} == {"measure.json", "report.html"}
