"""What cannot work is found for all runs at once, before anything runs."""

from dataclasses import fields

import pytest

from layerwise.errors import BadInputError
from layerwise.options.commands import ProfileSettings
from layerwise.options.declaration import declared
from layerwise.options.groups import CALL_ONLY
from layerwise.study.check import Fault, check, refuse_faults
from layerwise.study.expand import study_from
from layerwise.study.stages import STAGES
from layerwise.tuning.record import TuneSettings


@pytest.fixture(scope="module")
def files(study_kit, tmp_path_factory):
    return study_kit.files(tmp_path_factory.mktemp("files"), "llama", "bert")


@pytest.fixture
def faults(study_kit, files):
    def found(**keys):
        study = study_from(study_kit.plain(files, **keys))
        return check(study, study.cells)

    return found


def one(found):
    assert len(found) == 1
    return found[0]


def test_what_works_has_no_fault(faults, files, study_kit):
    models = {
        "llama": {"source": str(files / "llama")},
        "bert": {"source": str(files / "bert"), "objectives": ["masked-lm", "simcse"]},
        "made": {"pretrain": study_kit.neox(files)},
        "again": {
            "source": str(files / "llama"),
            "source_tuning": {"data": str(files / "texts.txt")},
        },
    }
    conditions = ["standard", "lora", "frozen-lower", "equal-step", "top-m"]
    rule = {"where": {"condition": "top-m"}, "set": {"top": 1}}
    found = faults(
        models=models,
        objectives=["causal-lm", "simcse"],
        conditions=conditions,
        placements={"all": None, "low": "0", "band": {"policy": "ski", "layers": 1}},
        override=[rule],
        distance={"examples": 12},
    )
    assert found == ()


def test_every_model_and_objective_that_cannot_work_is_listed(faults, files):
    models = {
        "llama": {"source": str(files / "llama")},
        "bert": {"source": str(files / "bert")},
        "none": {"source": str(files / "no-such-model")},
    }
    found = faults(models=models, objectives=["masked-lm", "nsp", "simcse"], seeds=[0, 1])
    told = {(f.model, f.objective): f for f in found}
    assert set(told) == {("llama", "masked-lm"), ("llama", "nsp"), ("bert", "nsp"), ("none", None)}
    assert all(f.runs == 2 for key, f in told.items() if key[0] != "none")
    assert told["none", None].runs == 6
    assert "objective is not for a model of kind causal" in told["llama", "masked-lm"].message
    assert "next-sentence head" in told["bert", "nsp"].message
    assert "no such model file or folder" in told["none", None].message


def test_a_study_that_cannot_work_is_refused_with_every_reason(files, study_kit, caplog):
    plain = study_kit.plain(files, objectives=["causal-lm", "masked-lm", "nsp"])
    study = study_from(plain)
    with pytest.raises(BadInputError, match=r"cannot work, 2 of 3: .*llama masked-lm.*llama nsp"):
        refuse_faults(study, study.cells)
    assert len([r for r in caplog.records if "cannot work" in r.getMessage()]) == 2
    refuse_faults(study, study.cells[:1])


CASES = [
    ({"defaults": {"stesp": 3}}, r"unknown setting of tune: 'stesp'.*did you mean 'steps'\?"),
    ({"defaults": {"steps": "many"}}, "value of steps: 'many'; expected a whole number"),
    ({"defaults": {"steps": 2.5}}, "value of steps: '2.5'; expected a whole number"),
    ({"defaults": {"steps": True}}, "value of steps: 'True'; expected a whole number"),
    ({"defaults": {"steps": 0}}, "value of steps: '0'; expected a whole number, 1 or more"),
    (
        {"defaults": {"weight_decay": -1}},
        "value of weight_decay: '-1'; expected a number, 0 or more",
    ),
    ({"defaults": {"learning_rate": "fast"}}, "value of learning_rate.*a number"),
    ({"defaults": {"bf16": 1}}, "value of bf16: '1'; expected true or false"),
    ({"defaults": {"where": [1]}}, "value of where.*a list of text"),
    ({"defaults": {"text_column": 3}}, "value of text_column: '3'; expected text"),
    ({"defaults": {"data": "no-such.csv"}}, "no such data file: 'no-such.csv'"),
    ({"defaults": {"text_column": "txet"}}, "unknown column.*'txet'"),
    ({"defaults": {"top": 1}}, r"top has no meaning under condition standard.*override: .*top-m"),
    ({"conditions": ["top-m"]}, "number of top blocks"),
    ({"conditions": ["standrad"]}, r"unknown condition: 'standrad'.*did you mean 'standard'\?"),
    ({"objectives": ["causal-ml"]}, r"unknown objective: 'causal-ml'.*did you mean 'causal-lm'\?"),
    ({"objectives": ["auto"]}, "unknown objective: 'auto'"),
    ({"objectives": ["sft"]}, "sft needs a prompt column"),
    ({"profile": {"readuot": "hf"}}, r"unknown setting of profile: 'readuot'.*'readout'\?"),
    (
        {"profile": {"readout": "raw"}},
        "value of readout: 'raw'; expected one of hf, residual, normed",
    ),
    ({"profile": {"probes": "none.txt"}}, "no such data file: 'none.txt'"),
    ({"profile": {"bootstrap": "x"}}, "value of bootstrap"),
    ({"conditions": ["lora"], "placements": {"low": "7"}}, "block.*7"),
    ({"conditions": ["lora"], "placements": {"low": {"policy": "sky"}}}, "unknown policy: 'sky'"),
    ({"conditions": ["lora"], "placements": {"low": {"rnak": 2}}}, r"of placement: 'rnak'.*'rank'"),
    ({"conditions": ["lora"], "placements": {"low": {"rank": "x"}}}, "value of rank: 'x'"),
    ({"distance": {"exmaples": 3}}, r"unknown setting of distance: 'exmaples'.*'examples'\?"),
    ({"distance": {"objectives": ["masked-lm"]}}, "objectives that .* cannot do"),
    ({"distance": {"reference": "masked-lm"}}, "objectives that .* cannot do"),
]


@pytest.mark.parametrize(("keys", "match"), CASES)
def test_each_fault_says_what_to_change(faults, keys, match):
    fault = one(faults(**keys))
    with pytest.raises(BadInputError, match=match):
        raise BadInputError(fault.message)


def test_labels_need_an_objective_for_them(faults, tmp_path):
    rows = "".join(f'{{"text": "w1 w{i}", "label": "{"ab"[i % 2]}"}}\n' for i in range(12))
    (tmp_path / "labelled.jsonl").write_text(rows)
    labels = {"data": str(tmp_path / "labelled.jsonl"), "label_column": "label"}
    found = faults(defaults=labels, objectives=["classification"], conditions=["standard", "lora"])
    assert found == ()
    assert "label column has no meaning" in one(faults(defaults=labels)).message


def test_a_configuration_is_checked_too(faults, files, study_kit):
    broken = study_kit.neox(files, architectures=["NoSuchModel"])
    found = faults(models={"made": {"pretrain": broken}})
    assert one(found).runs == 2
    assert "unknown architecture: 'NoSuchModel'" in found[0].message
    wordless = study_kit.neox(files) | {"tokenizer": str(files / "none")}
    assert (
        "no such model file or folder"
        in one(faults(models={"made": {"pretrain": wordless}})).message
    )


def test_weights_are_not_read(faults, files, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((files / "llama" / name).read_bytes())
    assert faults(models={"bare": {"source": str(bare)}}) == ()


def test_settings_of_stages_are_declared_with_the_names_that_functions_take():
    tune = declared(STAGES["tune"].settings)
    assert {f.name for f in fields(TuneSettings)} - {"seed"} < set(tune)
    assert {"where", "device", "placement", "profile"} <= set(tune)
    assert not {"seed", "labels", "loaded", "objective", "condition", CALL_ONLY} & set(tune)
    assert {"config", "tokenizer", "steps"} <= set(declared(STAGES["pretrain"].settings))
    assert {"readout", "probes", "bootstrap"} <= set(declared(ProfileSettings))
    assert {"objectives", "reference", "examples"} <= set(declared(STAGES["distance"].settings))


def test_a_fault_is_one_line():
    assert str(Fault("m", None, None, 1, "why")) == "m (1 run): why"
    assert str(Fault("m", "o", "c", 3, "why")) == "m o c (3 runs): why"
