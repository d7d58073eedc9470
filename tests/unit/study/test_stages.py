"""What each stage does with a cell: its records, its numbers, and what stays in the folder."""

import json

import pytest

from layerwise.card.record import LayerCard
from layerwise.distance.record import Distance
from layerwise.errors import SchemaError
from layerwise.models.load import load
from layerwise.placement.place import place
from layerwise.profile.record import Profile
from layerwise.study.placing import placement_settings
from layerwise.study.shrink import TooLargeError
from layerwise.study.stages import STAGES
from layerwise.study.tasks import MODEL, Task
from layerwise.tuning.lora import placed_on
from layerwise.tuning.record import TuneRecord
from support.studies import end, neox

pytestmark = pytest.mark.slow  # Short runs, many of them.

WEIGHTS = "model.safetensors"


def run(ledger, cell, **options):
    return STAGES[cell.stage].run(Task(cell, ledger, **options))


def ended(ledger, cell):
    """The numbers of a run that others start from, which has its result then."""
    found = run(ledger, cell)
    end(ledger, cell, found)
    return found


def test_stages_are_registered_by_name():
    assert all(stage.name == name for name, stage in STAGES.items())
    assert set(STAGES) == {
        "pretrain", "source", "tune", "distance", "probe", "erase", "ladder", "interventions",
    }  # fmt: skip


@pytest.mark.parametrize("condition", ["standard", "lora", "equal-step"])
def test_tune_gives_what_its_records_say(opened, condition):
    ledger, (cell,) = opened(conditions=[condition])
    found = run(ledger, cell)
    folder = ledger.folder(cell.id)
    tuned, profile = TuneRecord.load(folder), Profile.load(folder)
    assert found["training"] == {
        "objective": "causal-lm",
        "condition": condition,
        "loss": tuned.outcome.loss,
        "first_loss": tuned.outcome.first_loss,
        "steps": 3,
        "learning_rate": 1e-3,
        "batch_size": 4,
        "accumulation": 1,
        "halvings": 0,
        "data_sha256": tuned.data.sha256,
        "trained": sum(group.trained for group in tuned.groups),
        **({"blocks": "0,1"} if condition == "lora" else {}),
        **({} if tuned.tau is None else {"tau": tuned.tau}),
    }
    assert (tuned.tau is not None) == (condition == "equal-step")
    assert found["model"]["layers"] == len(profile.blocks) == 2
    assert list(found["profile"]) == ["hf", "residual", "normed"]
    for name, row in found["profile"].items():
        record = profile.readouts[name]
        for change in ("procrustes", "cka", "rsa"):
            assert row[change] == [getattr(depth, change) for depth in record.depths]
            assert len(row[change]) == 7
        assert row["slope"] == record.slope
        assert row["width"] == list(record.width)
    assert max(found["profile"]["hf"]["procrustes"]) > 0
    assert found["readout"] == "hf"
    json.dumps(found, allow_nan=False)


def test_tune_drops_weights_and_checkpoints(opened):
    ledger, (cell,) = opened(defaults={"save_every": 1})
    run(ledger, cell)
    left = {path.name for path in ledger.folder(cell.id).iterdir()}
    assert left == {"spec.json", "tune.json", "profile.json", "log.jsonl"}


def test_weights_stay_where_that_is_asked_for(opened):
    ledger, (cell,) = opened(keep_weights=True)
    run(ledger, cell)
    folder = ledger.folder(cell.id)
    record = TuneRecord.load(folder)
    assert load(str(folder / MODEL)).files.items() <= record.files.items()
    assert not (folder / "checkpoints").exists()


def test_the_model_is_described_as_it_was_loaded(opened, files):
    models = {name: str(files / name) for name in ("llama", "bert")}
    ledger, cells = opened(models=models, objectives=["simcse"], conditions=["lora"])
    found = [run(ledger, cell)["model"] for cell in cells]
    assert [m["family"] for m in found] == ["decoder", "encoder"]
    assert [m["block"] for m in found] == ["sequential", "sequential"]
    plain = [load(source).model.num_parameters() for source in models.values()]
    assert [m["parameters"] for m in found] == plain


def test_the_same_cell_gives_the_same_bytes_anywhere(opened, tmp_path):
    found = []
    for name in ("one", "two"):
        ledger, (cell,) = opened()
        found.append(json.dumps(run(ledger, cell)))
        ledger.root.rename(tmp_path / name)
    assert found[0] == found[1]
    assert str(tmp_path) not in found[0]


def test_pretraining_leaves_a_model_for_the_runs_of_its_seed(opened, files):
    ledger, cells = opened(models={"neox": {"pretrain": neox(files)}}, seeds=[0, 1])
    made, tuned = cells[:2], cells[2:]
    for cell in made:
        row = ended(ledger, cell)
        assert row["model"]["block"] == "parallel"
        assert row["training"]["condition"] == "uniform"
        assert row["training"]["learning_rate"] == 1e-3
        assert not (ledger.folder(cell.id) / "checkpoints").exists()
    weights = [(ledger.folder(c.id) / MODEL / WEIGHTS).read_bytes() for c in made]
    assert weights[0] != weights[1]
    for before, cell in zip(made, tuned, strict=True):
        run(ledger, cell)
        start = TuneRecord.load(ledger.folder(cell.id)).model
        assert start.files[WEIGHTS] == TuneRecord.load(ledger.folder(before.id)).files[WEIGHTS]
        assert before.seed == cell.seed


def test_a_pretrained_model_that_was_changed_is_refused(opened, files):
    ledger, (made, cell) = opened(models={"neox": {"pretrain": neox(files)}})
    ended(ledger, made)
    file = ledger.folder(made.id) / MODEL / WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(SchemaError, match="file of a finished run that is not what was written"):
        run(ledger, cell)


def test_distances_are_those_of_their_record(opened):
    asked = {"batch_size": 6, "examples": 20}
    ledger, cells = opened(objectives=["causal-lm", "simcse"], distance=asked)
    cell = cells[-1]
    found = run(ledger, cell)
    record = Distance.load(ledger.folder(cell.id))
    assert found["reference"] == "causal-lm"
    reference, other = found["objectives"]
    assert (reference["name"], reference["cosine"]) == ("causal-lm", 0)
    (simcse,) = [o for o in record.objectives if o.name == "simcse"]
    assert (other["name"], other["rows"]) == ("simcse", 20)
    assert other["procrustes"] == simcse.procrustes > 0
    assert found["model"]["layers"] == 2
    assert (found["batch_size"], found["halvings"]) == (6, 0)
    json.dumps(found, allow_nan=False)


def test_distances_are_divided_unless_a_loss_compares_texts(opened):
    asked = {"batch_size": 8, "examples": 20}
    ledger, cells = opened(objectives=["causal-lm", "causal-span"], distance=asked)
    assert run(ledger, cells[-1], halvings=1)["batch_size"] == 4
    ledger, cells = opened(objectives=["causal-lm", "simcse"], distance=asked)
    with pytest.raises(TooLargeError, match="out of memory: simcse compares the texts of a batch"):
        run(ledger, cells[-1], halvings=1)


@pytest.mark.parametrize("halvings", [1, 2])
def test_halvings_keep_the_effective_batch_and_are_recorded(opened, halvings):
    ledger, (cell,) = opened(defaults={"accumulation": 3})
    training = run(ledger, cell, halvings=halvings)["training"]
    assert training["halvings"] == halvings
    assert training["batch_size"] * training["accumulation"] == 12
    assert training["batch_size"] == 4 // 2**halvings
    (note,) = [n for n in TuneRecord.load(ledger.folder(cell.id)).notes if "memory" in n]
    assert note.startswith("memory ran out with 3 x 4 examples a step: it is")


def test_each_part_of_the_work_is_told(opened):
    ledger, (cell,) = opened()
    heard = []
    run(ledger, cell, begins=heard.append)
    assert list(dict.fromkeys(heard)) == ["reading", "profile before", "training", "profile after"]
    assert heard.count("training") == 4  # The beginning, and each of three steps.


def test_a_run_begins_from_what_was_tuned_on_other_text(opened, files):
    """The head that the source was told apart by is kept where the classes are the same."""
    labelled = {"data": str(files / "labelled.jsonl"), "label_column": "label"}
    own = {**labelled, "steps": 3, "batch_size": 4, "max_length": 16, "device": "cpu"}
    ledger, (source, *tuned) = opened(
        models={"bert": {"source": str(files / "bert"), "source_tuning": own}},
        objectives=["classification"],
        conditions=["lora", "uniform"],
        defaults={**labelled, "eval_examples": 6},
    )
    found = ended(ledger, source)
    assert found["training"]["objective"] == "classification"
    assert "profile" not in found
    assert not (ledger.folder(source.id) / "checkpoints").exists()
    made = TuneRecord.load(ledger.folder(source.id) / MODEL)
    for cell in tuned:
        row = run(ledger, cell)
        record = TuneRecord.load(ledger.folder(cell.id))
        assert record.model.files[WEIGHTS] == made.files[WEIGHTS]
        assert not any("head for" in note for note in record.notes)
        assert row["training"]["accuracy"] == record.outcome.quality["accuracy"]
        assert row["training"]["first_macro_f1"] == record.outcome.first_quality["macro_f1"]


def test_a_placement_says_where_adapters_go(opened):
    described = {"policy": "ski", "layers": 1, "examples": 8, "rank": 2, "alpha": 6, "dropout": 0.0}
    whole = {"blocks": None, "rank": 3, "targets": ["q_proj"]}
    places = {"all": None, "top": "1", "thin": whole, "band": described}
    ledger, cells = opened(conditions=["lora"], placements=places)
    rows = [run(ledger, cell) for cell in cells]
    every, top, thin, band = (TuneRecord.load(ledger.folder(c.id)).placement for c in cells)
    assert [[block.index for block in p.blocks] for p in (every, top)] == [[0, 1], [1]]
    assert [name.rpartition(".")[2] for name in thin.modules] == ["q_proj"] * 2
    assert (thin.rank, thin.alpha, thin.dropout) == (3, 16, 0.1)
    assert (band.policy, band.rank, band.alpha, band.dropout) == ("ski", 2, 6, 0.0)
    assert rows[-1]["training"]["blocks"] == str(band.blocks[0].index)
    card = LayerCard.load(ledger.folder(cells[-1].id))  # Of the run's own model.
    assert (card.data.examples, card.capture.rank) == (8, 2)
    assert place(card, policy="ski", layers=1).blocks == band.blocks


def test_what_a_placement_does_not_say_is_as_for_lora_elsewhere(tuning):
    usual, asked = placed_on(tuning.loaded("llama")), placement_settings({})
    assert all(asked[name] == getattr(usual, name) for name in ("rank", "alpha", "dropout"))


def test_a_placement_is_made_once_for_a_run_that_is_taken_up(opened):
    described = {"policy": "random", "layers": 1, "examples": 4}
    ledger, (cell,) = opened(conditions=["lora"], placements={"some": described})
    run(ledger, cell)
    folder = ledger.folder(cell.id)
    kept = json.loads((folder / "placement.json").read_text())
    (folder / "placement.json").write_text(json.dumps({**kept, "dropout": 0.25}))
    run(ledger, cell)
    assert TuneRecord.load(folder).placement.dropout == 0.25
