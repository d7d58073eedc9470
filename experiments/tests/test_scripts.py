"""The scripts behind docs/evidence.md: tables come from lines of runs alone."""

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr

import layerwise as lw
from laboratory.calibration import Calibration
from laboratory.predictors import PREDICTORS
from laboratory.run_log import SetRun, append_run, read_runs
from layerwise.measure.record import Measure
from layerwise.measure.trial import Trial

SCRIPT = Path(__file__).parents[1] / "placements.py"


def names_of(name):
    """A script's own names; as when it is run, what lies beside it can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        return import_module(name)


@pytest.fixture(scope="module")
def script():
    """The names of the script that trains."""
    return names_of("placements")


@pytest.fixture
def out(tmp_path, small_card, script):
    """A folder with the cards and runs of two pairs, two seeds of each of ten sets."""
    rng = np.random.default_rng(0)
    for name in ("smollm2-imdb", "minilm-imdb"):
        gradients = rng.normal(size=(6, 10, 30)) + rng.uniform(0.1, 0.5, size=(6, 1, 1))
        gram = np.einsum("lid,ljd->lij", gradients, gradients)
        card = small_card(6, gram=gram)
        card = replace(card, arrays={"gram": gram, "adam_gram": gram, "losses": gram[0, 0]})
        replace(card, arrays=script.kept_arrays(card)).save(tmp_path / "cards" / name)
        for rows in [(0, 1), (0, 2), (1, 4), (2, 5), (3, 4), (1, 5), (0, 5), (2, 3)]:
            for seed in (0, 1):
                gained = 1.0 - min(rows) / 6 + 0.05 * rng.normal()
                trial = Trial(seed, 1e-3, 3.0, 3.0 - gained, 0.1, 1, 10, 40, 100)
                run = SetRun(name, "random", rows, seed, 8, 8, 48, trial, "cpu", "2026")
                append_run(tmp_path / "placements.jsonl", run)
    return tmp_path


def called(monkeypatch, script, *words):
    monkeypatch.setattr(sys, "argv", ["placements.py", *map(str, words)])
    script.main()


def test_tables_are_made_of_the_lines(monkeypatch, capsys, script, out):
    called(monkeypatch, script, "tables", "--out", out)
    text = capsys.readouterr().out
    found = Calibration.load(out)
    assert [pair.name for pair in found.pairs] == ["smollm2-imdb", "minilm-imdb"]
    assert [pair.sets for pair in found.pairs] == [8, 8]
    lowest = next(s for s in found.pairs[0].scores if s.name == "lowest")
    assert f"{lowest.spearman:.2f} ({lowest.low:.2f} to {lowest.high:.2f})" in text
    assert f"- preferred: {found.preferred}" in text
    assert "| minilm-imdb | random | 2 | 8 | " in text
    assert all(f"| {family.name} |" in text for family in found.families)


def test_tables_take_their_place_in_a_document(monkeypatch, capsys, script, out):
    document = out / "evidence.md"
    document.write_text(f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n")
    called(monkeypatch, script, "tables", "--out", out, "--into", document)
    once = document.read_text()
    called(monkeypatch, script, "tables", "--out", out, "--into", document)
    assert document.read_text() == once
    assert once.startswith(f"before\n{script.BEGIN}\n| pair | sets |")
    assert once.endswith(f"\n{script.END}\nafter\n")
    assert "old" not in once
    assert capsys.readouterr().out == ""


def test_a_document_without_a_place_for_them_is_left_alone(monkeypatch, script, out):
    document = out / "evidence.md"
    document.write_text("text")
    with pytest.raises(SystemExit, match="mark where the tables go; they are not there"):
        called(monkeypatch, script, "tables", "--out", out, "--into", document)
    assert document.read_text() == "text"


def test_parts_share_the_sets_and_leave_none(script):
    asked = script.parser().parse_args(["run", "--kinds", "random,single,contiguous"])
    ready = SimpleNamespace(card=SimpleNamespace(layers=range(6)), pair=script.PAIRS["minilm-imdb"])
    wanted = script.wanted(ready, asked)
    assert len(wanted) == len(set(wanted)) == (15 + 16) + 6 + (5 + 4)
    assert {size for kind, rows in wanted if kind == "random" for size in [len(rows)]} == {2, 3}
    assert (script.share("2/3"), script.share("1/1")) == ((2, 3), (1, 1))


def test_a_study_that_is_interrupted_goes_on_where_it_was(monkeypatch, script, tmp_path):
    """Trainings are stood in for by what they would append; the order and the rest are real."""
    names = ["minilm-imdb", "minilm-rotten_tomatoes"]
    made = []

    def trained(ready, kind, rows, *, seed, rate):
        if len(made) == 25:
            made.append(None)
            raise KeyboardInterrupt
        trial = Trial(seed, rate, 3.0, 2.9, 0.1, 1, 10, 40, 100)
        run = SetRun(ready.pair.name, kind, rows, seed, 8, 16, 48, trial, "cpu", "2026")
        made.append(run.key)
        return run

    def prepared(pair, _out):
        return SimpleNamespace(pair=pair, card=SimpleNamespace(layers=range(6)))

    stand_ins = {"trained": trained, "prepared": prepared, "seconds_of_a_run": lambda _: 1.0}
    for name, stand_in in stand_ins.items():
        monkeypatch.setitem(script.run.__globals__, name, stand_in)
    words = ["run", "--pairs", ",".join(names), "--seeds", "0,1", "--sets", "12", "--out", tmp_path]
    words += ["--learning-rate", "0.001"]
    with pytest.raises(KeyboardInterrupt):
        called(monkeypatch, script, *words)
    called(monkeypatch, script, *words)
    keys = [run.key for run in read_runs(tmp_path / "placements.jsonl")]
    assert len(keys) == len(set(keys)) == 2 * 2 * 12
    assert [(key[3], key[0]) for key in keys] == sorted((key[3], key[0]) for key in keys)
    called(monkeypatch, script, *words)
    assert len(made) == len(keys) + 1


@pytest.mark.parametrize("text", ["3/2", "0/2"])
def test_a_part_that_is_not_there_is_refused(capsys, script, text):
    with pytest.raises(SystemExit):
        script.parser().parse_args(["run", "--part", text])
    assert f"{text}: expected PART/PARTS, such as 1/2" in capsys.readouterr().err


def test_the_lines_that_are_kept_in_the_repository_are_whole():
    file = SCRIPT.parents[1] / "docs" / "evidence" / "placements.jsonl"
    runs = read_runs(file)
    assert len({run.key for run in runs}) == len(runs)


def test_the_evidence_that_is_kept_names_no_path_of_a_machine():
    folder = SCRIPT.parents[1] / "docs" / "evidence"
    files = [path for path in folder.rglob("*.json*") if path.is_file()]
    assert files
    assert [path.name for path in files if '"/' in path.read_text()] == []


@pytest.fixture(scope="module")
def standings():
    """The names of the script that says where the recommended placement lands."""
    return names_of("recommended")


def measurement(tuning, folder, **options):
    """A small measurement in a folder of its own, as `layerwise measure` leaves it."""
    few = {"steps": 2, "batch_size": 4, "max_length": 16, "eval_examples": 4, "draws": 3}
    few |= {"ladder": (1e-2,), "seeds": (0, 1), "layers": 1}
    made = lw.measure(tuning.loaded(), tuning.data(), **few, **options)
    folder.mkdir()
    (folder / "measure.json").write_bytes(made.to_json())
    return made


def test_predictions_are_ranked_against_the_measured_placements(standings):
    known = SCRIPT.parents[1] / "docs" / "evidence"
    folders = sorted((known / "measures").glob("*/measure.json"))
    made = {path.parent.name: Measure.load(path) for path in folders}
    rows = {row[0]: row[1:-1] for row in standings.predictor_rows(made, known)}
    assert set(rows) == set(PREDICTORS)
    for place, one in enumerate(made.values()):
        gains = {
            tuple(block.index for block in arm.blocks): np.mean(
                [trial.loss_before - trial.loss_after for trial in arm.trials]
            )
            for arm in one.arms
            if arm.equal and arm.trials and len(arm.blocks) == one.budget.layers
        }
        spreads = np.round([np.std(blocks) for blocks in gains], 9)  # Equal sets are tied.
        expected = spearmanr(spreads, list(gains.values())).statistic
        found = float(rows["spread"][place].partition(" ")[0])
        assert found == pytest.approx(expected, abs=0.0051)


def test_standings_are_those_of_the_trials(tuning, tmp_path, standings):
    made = measurement(tuning, tmp_path / "tiny")
    text = standings.tables(tmp_path)
    start = "| tiny | recommended | loss |"
    (verdict,) = [line.split(" | ") for line in text.splitlines() if line.startswith(start)]
    own, whole = made.arm("recommended").trials, made.arm("all").trials
    gains = [np.mean([t.loss_before - t.loss_after for t in some]) for some in (own, whole)]
    assert verdict[5:8] == [f"{gains[0]:.4f}", f"{gains[1]:.4f}", f"{gains[0] / gains[1]:.0%}"]
    draws = [np.mean([t.improvement for t in a.trials]) for a in made.arms if a.kind == "random"]
    assert verdict[8] == f"{np.median(draws):.4f}"
    rivals = [arm for arm in made.arms if arm.equal and arm.trials and len(arm.blocks) == 1]
    sets = {arm.blocks for arm in rivals}
    better = {arm.blocks for arm in rivals if arm.outcome.improvement > gains[0] + 1e-12}
    assert verdict[9] == f"{1 + len(better)} of {len(sets)}"
    assert f"| tiny | loss | {len(sets)} | 2 | " in text
    assert all(f"| tiny | {arm.name} | " in text for arm in made.arms)
