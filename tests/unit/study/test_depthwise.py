"""Studies that look at models by depth: their cells, what is checked before, results and tables."""

import json

import pytest

from layerwise.errors import BadInputError, UnknownNameError
from layerwise.probing.record import Erasure, Probing
from layerwise.profile.record import Profile
from layerwise.study.check import check, refuse_faults
from layerwise.study.expand import study_from
from layerwise.study.ledger import open_ledger
from layerwise.study.stages import STAGES
from layerwise.study.table import tables
from layerwise.study.tasks import Task
from layerwise.study.worker import execute

pytestmark = pytest.mark.slow  # Short runs, many of them.


@pytest.fixture(scope="module")
def files(study_kit, tmp_path_factory):
    folder = study_kit.files(tmp_path_factory.mktemp("files"), "llama", "bert")
    rows = [{"text": f"w{i} w{i + 1} w{40 + i % 2}", "label": "ab"[i % 2]} for i in range(24)]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"a": f"w{i} w{i + 1} w40", "b": f"w{i} w{i + 1} w41"} for i in range(14)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    return folder


@pytest.fixture(scope="module")
def looks(files):
    return {
        "probe": {"data": str(files / "labelled.jsonl"), "epochs": 2},
        "erase": {"pairs": str(files / "pairs.jsonl"), "draws": 3, "folds": 3},
        "ladder": {"objective": "causal-lm", "eval_examples": 6},
        "interventions": {"objective": "causal-lm", "blocks": 1, "draws": 1, "eval_examples": 6},
    }


@pytest.fixture
def plain(study_kit, files, looks):
    def make(*stages, **keys):
        probing = {stage: looks[stage] for stage in stages or looks}
        return study_kit.plain(files, **{"probing": probing, **keys})

    return make


def cells(study):
    return [cell for cell in study_from(study).cells if cell.stage != "tune"]


def test_a_cell_a_stage_and_seed_after_the_training(plain):
    found = study_from(plain(seeds=[0, 1])).cells
    assert [cell.stage for cell in found][:2] == ["tune", "tune"]
    assert [(cell.stage, cell.seed) for cell in found[2:]] == [
        (stage, seed) for stage in ("probe", "erase", "ladder", "interventions") for seed in (0, 1)
    ]
    assert all((c.objective, c.condition, c.placement) == (None, None, None) for c in found[2:])
    assert len({cell.id for cell in found}) == 10


def test_settings_of_training_are_taken_over_where_they_are_read(plain, looks, files):
    probe, erase, ladder, interventions = (cell.settings for cell in cells(plain()))
    assert probe["data"] == looks["probe"]["data"]
    assert "steps" not in probe
    assert "max_length" not in erase
    assert erase["device"] == "cpu"
    assert (ladder["steps"], ladder["data"]) == (3, str(files / "texts.txt"))
    assert "profile" not in ladder
    assert interventions["profile"]["probes"] == str(files / "probes.txt")


def test_a_model_may_be_looked_at_and_not_trained(plain):
    study = plain("erase", objectives=[], conditions=[])
    assert [cell.stage for cell in study_from(study).cells] == ["erase"]
    with pytest.raises(BadInputError, match="model llama without objectives"):
        study_from(plain(objectives=[], conditions=[], probing=None))


def test_a_model_has_its_own_or_none(plain, files, looks):
    models = {
        "llama": {"source": str(files / "llama"), "probing": {}},
        "bert": {"source": str(files / "bert"), "probing": {"erase": looks["erase"]}},
    }
    found = cells(plain(models=models, objectives=["simcse"]))
    assert [(cell.model, cell.stage) for cell in found] == [("bert", "erase")]


def test_what_is_pretrained_is_looked_at_seed_by_seed(study_kit, plain, files):
    models = {"neox": {"pretrain": study_kit.neox(files)}}
    found = study_from(plain("erase", models=models, seeds=[0, 1])).cells
    made = {cell.seed: cell.id for cell in found if cell.stage == "pretrain"}
    looked = [cell for cell in found if cell.stage == "erase"]
    assert [(c.settings["pretrained"], c.after) for c in looked] == [
        (made[seed], (made[seed],)) for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("probing", "error", "match"),
    [
        ({"eras": {}}, UnknownNameError, r"unknown key in probing: 'eras'.*did you mean 'erase'"),
        ({"erase": {}}, BadInputError, "erase of model llama without pairs"),
        ({"erase": {"seed": 1}}, BadInputError, r"probing\.erase\.seed: the matrix sets it"),
        ({"probe": [1]}, BadInputError, r"value of probing\.probe"),
    ],
)
def test_what_makes_no_sense_is_refused(plain, probing, error, match):
    with pytest.raises(error, match=match):
        study_from(plain(probing=probing))


def test_what_works_has_no_fault(plain):
    study = study_from(plain())
    assert check(study, study.cells) == ()


@pytest.mark.parametrize(
    ("stage", "setting", "match"),
    [
        ("probe", {"where": ["label=a"]}, "needs two classes or more"),
        ("probe", {"data": "{texts}"}, "unknown column: 'label'"),
        ("probe", {"readout": "last"}, "value of readout: 'last'; expected one of hf"),
        ("erase", {"pairs": "none.jsonl"}, "no such file of pairs"),
        ("erase", {"folds": "many"}, "value of folds: 'many'; expected a whole number"),
        ("ladder", {"tops": [3]}, "rungs of the ladder"),
        ("ladder", {"objective": "masked-lm"}, "objective is not for a model"),
        ("interventions", {"blocks": 3}, "number of blocks of the interventions: '3'"),
    ],
)
def test_each_fault_is_found_before_a_run(plain, looks, files, stage, setting, match):
    setting = {k: str(files / "texts.txt") if v == "{texts}" else v for k, v in setting.items()}
    study = study_from(plain(probing={stage: {**looks[stage], **setting}}))
    (fault,) = check(study, study.cells)
    assert fault.runs == 1
    with pytest.raises(BadInputError, match=match):
        refuse_faults(study, study.cells)


def test_a_setting_that_does_not_exist_is_refused(plain, looks):
    study = study_from(plain(probing={"erase": {**looks["erase"], "draw": 3}}))
    with pytest.raises(UnknownNameError, match=r"unknown setting of erase: 'draw'.*'draws'"):
        refuse_faults(study, study.cells)


@pytest.fixture(scope="module")
def ledger(study_kit, files, looks, tmp_path_factory):
    root = tmp_path_factory.mktemp("ledger") / "ledger"
    study = study_kit.plain(files, probing=looks, objectives=[], conditions=[])
    book, made = study_kit.opened(root, study)
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
