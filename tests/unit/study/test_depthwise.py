"""Studies that look at models by depth: their cells, what is checked before, results and tables."""

import json

import pytest

from layerwise.errors import BadInputError
from layerwise.probing.record import Erasure, Probing
from layerwise.profile.record import Profile
from layerwise.study.check import check
from layerwise.study.expand import study_from
from layerwise.study.ledger import open_ledger
from layerwise.study.stages import STAGES
from layerwise.study.table import tables
from layerwise.study.tasks import Task
from layerwise.study.worker import execute
from support.studies import neox, opened

pytestmark = pytest.mark.slow  # Short runs, many of them.


@pytest.fixture(scope="module")
def looks(files):
    trained = {"objective": "causal-lm", "eval_examples": 6}
    return {
        "probe": {"data": str(files / "labelled.jsonl"), "epochs": 2},
        "erase": {"pairs": str(files / "pairs.jsonl"), "draws": 3, "folds": 3},
        "ladder": trained,
        "interventions": {**trained, "blocks": 1, "draws": 1},
    }


@pytest.fixture
def study(plain, looks):
    def make(*stages, **keys):
        probing = {stage: looks[stage] for stage in stages or looks}
        return study_from(plain(**{"probing": probing, **keys}))

    return make


def looking(study):
    return [cell for cell in study.cells if cell.stage not in {"tune", "pretrain"}]


def test_a_cell_a_stage_and_seed_after_the_training(study):
    found = study(seeds=[0, 1]).cells
    assert [cell.stage for cell in found][:2] == ["tune", "tune"]
    assert [(cell.stage, cell.seed) for cell in found[2:]] == [
        (stage, seed) for stage in ("probe", "erase", "ladder", "interventions") for seed in (0, 1)
    ]
    assert all((c.objective, c.condition, c.placement) == (None, None, None) for c in found[2:])
    assert len({cell.id for cell in found}) == 10


def test_settings_of_training_are_taken_over_where_they_are_read(study, looks, files):
    probe, erase, ladder, interventions = (cell.settings for cell in looking(study()))
    assert probe["data"] == looks["probe"]["data"]
    assert "steps" not in probe
    assert "max_length" not in erase
    assert erase["device"] == "cpu"
    assert (ladder["steps"], ladder["data"]) == (3, str(files / "texts.txt"))
    assert "profile" not in ladder
    assert interventions["profile"]["probes"] == str(files / "probes.txt")


def test_a_model_may_be_looked_at_and_not_trained(study):
    cells = study("erase", objectives=[], conditions=[]).cells
    assert [cell.stage for cell in cells] == ["erase"]
    with pytest.raises(BadInputError, match="model llama without objectives"):
        study(objectives=[], conditions=[], probing=None)


def test_a_model_has_its_own_or_none(study, files, looks):
    models = {
        "llama": {"source": str(files / "llama"), "probing": {}},
        "bert": {"source": str(files / "bert"), "probing": {"erase": looks["erase"]}},
    }
    found = looking(study(models=models, objectives=["simcse"]))
    assert [(cell.model, cell.stage) for cell in found] == [("bert", "erase")]


def test_what_is_pretrained_is_looked_at_seed_by_seed(study, files):
    found = study("erase", models={"neox": {"pretrain": neox(files)}}, seeds=[0, 1])
    made = {cell.seed: cell.id for cell in found.cells if cell.stage == "pretrain"}
    assert [(c.settings["pretrained"], c.after) for c in looking(found)] == [
        (made[seed], (made[seed],)) for seed in (0, 1)
    ]


def test_what_works_has_no_fault(study):
    found = study()
    assert check(found, found.cells) == ()


@pytest.fixture(scope="module")
def ledger(plain, looks, tmp_path_factory):
    root = tmp_path_factory.mktemp("ledger") / "ledger"
    book, made = opened(root, plain(probing=looks, objectives=[], conditions=[]))
    for cell in made:
        execute(root, cell.id)
    assert [book.state(cell.id) for cell in made] == ["done"] * 4
    return open_ledger(root)


def found(ledger, stage):
    (cell,) = [c for c in study_from(ledger.study_plain()).cells if c.stage == stage]
    return ledger.folder(cell.id), ledger.result(cell.id)["result"], cell


def test_results_are_those_of_the_records(ledger):
    folder, result, _ = found(ledger, "probe")
    probing = Probing.load(folder)
    assert [row["linear"] for row in result["rows"]] == [d.linear.accuracy for d in probing.depths]
    assert result["model"]["layers"] == 2
    folder, result, _ = found(ledger, "erase")
    assert [row["effect"] for row in result["rows"]] == [
        d.effect for d in Erasure.load(folder).depths
    ]
    folder, result, _ = found(ledger, "ladder")
    ladder = json.loads((folder / "ladder.json").read_text())
    assert [row["top"] for row in result["rows"]] == [1, 2, -1]
    assert result["rows"][-1]["loss"] == ladder["full"]["loss"]
    folder, result, _ = found(ledger, "interventions")
    moved = Profile.load(folder)
    best = max(moved.blocks, key=lambda block: block.cka).index
    assert {row["arm"]: row["blocks"] for row in result["rows"]}["plasticity"] == str(best)


def test_a_table_a_stage(ledger):
    made = tables(ledger)
    assert set(made) >= {"probes", "erasures", "ladders", "interventions"}
    assert len(made["runs"]) == 0
    assert made["probes"]["index"].tolist() == [0, 1]
    assert made["erasures"].pairs.tolist() == [14, 14]
    assert made["ladders"].top.tolist() == [-1, 1, 2]
    assert made["interventions"].arm.tolist() == ["all", "plasticity", "random-1", "uniform"]


@pytest.mark.parametrize("stage", ["ladder", "interventions", "probe", "erase"])
def test_the_same_cell_gives_the_same_numbers(ledger, stage):
    _, result, cell = found(ledger, stage)
    again = STAGES[stage].run(Task(cell, ledger))
    assert json.loads(json.dumps(again)) == result
