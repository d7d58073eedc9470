"""The record of a run is the same after it was saved and loaded."""

import json
from dataclasses import replace

import pytest

from layerwise.tuning.lora import adapted, placed_on
from layerwise.tuning.record import TuneRecord


@pytest.mark.parametrize("condition", ["standard", "equal-step", "lora"])
def test_saved_and_loaded_is_equal(tuning, tmp_path, condition):
    record = tuning.tune("llama", condition=condition, eval_examples=4).record
    file = tmp_path / "tune.json"
    file.write_bytes(record.to_json())
    assert TuneRecord.load(file) == TuneRecord.load(tmp_path) == record
    assert TuneRecord.load(file).to_json() == record.to_json()
    plain = json.loads(record.to_json())
    assert plain["schema"] == "layerwise/tune/2"
    assert {"model", "data", "condition", "settings", "groups", "outcome", "form"} <= plain.keys()
    assert {"layerwise", "torch", "transformers", "peft", "command"} <= plain["provenance"].keys()
    assert ("tau" in plain, "placement" in plain) == (
        condition == "equal-step",
        condition == "lora",
    )


@pytest.mark.parametrize(("condition", "told"), [("frozen-lower", 1), ("uniform", 0)])
def test_an_older_run_says_what_its_condition_meant(tuning, tmp_path, condition, told):
    record = tuning.tune("llama", condition=condition).record
    plain = json.loads(record.to_json()) | {"schema": "layerwise/tune/1"}
    (tmp_path / "tune.json").write_text(json.dumps(plain))
    notes = [n for n in TuneRecord.load(tmp_path).notes if "froze the embeddings too" in n]
    assert len(notes) == told


def test_ranks_by_module_are_in_the_json_where_they_differ(tuning, tmp_path):
    """Also where the run was given a model that has its adapters already."""
    placed = placed_on(tuning.loaded("llama"), rank=4, alpha=8)
    lower = {placed.modules[0]: 2}
    by_module = replace(placed, ranks=lower, adapter_parameters=_size(tuning, placed, lower))
    for placement, told in ((by_module, lower), (placed, None)):
        record = tuning.tune(adapted(tuning.loaded("llama"), placement), condition="lora").record
        plain = json.loads(record.to_json())["placement"]
        assert (plain["rank"], plain.get("ranks")) == (4, told)
        (tmp_path / "tune.json").write_bytes(record.to_json())
        assert TuneRecord.load(tmp_path) == record


def _size(tuning, placed, ranks):
    """How many numbers adapters have with `ranks`."""
    modules = dict(tuning.loaded("llama").model.named_modules())
    sides = {n: modules[n].in_features + modules[n].out_features for n in placed.modules}
    return sum(ranks.get(name, placed.rank) * side for name, side in sides.items())
