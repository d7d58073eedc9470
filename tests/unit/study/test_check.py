"""Runs that cannot work are found all at once, before anything runs; see test_refusals.py."""

from dataclasses import fields

import pytest

from layerwise.errors import BadInputError, UnknownNameError
from layerwise.options.commands import ProfileSettings
from layerwise.options.declaration import declared
from layerwise.options.groups import CALL_ONLY
from layerwise.study.check import Fault, check, refuse_faults
from layerwise.study.expand import study_from
from layerwise.study.stages import STAGES
from layerwise.tuning.record import TuneSettings
from support.studies import neox


@pytest.fixture
def faults(plain):
    def found(**keys):
        study = study_from(plain(**keys))
        return check(study, study.cells)

    return found


def test_what_works_has_no_fault(faults, files, tmp_path):
    bare = tmp_path / "bare"  # Weights are not read.
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((files / "llama" / name).read_bytes())
    models = {
        "llama": {"source": str(bare)},
        "bert": {"source": str(files / "bert"), "objectives": ["masked-lm", "simcse"]},
        "made": {"pretrain": neox(files)},
        "again": {
            "source": str(files / "llama"),
            "source_tuning": {"data": str(files / "texts.txt")},
        },
    }
    found = faults(
        models=models,
        objectives=["causal-lm", "simcse"],
        conditions=["standard", "lora", "frozen-lower", "equal-step", "top-m"],
        placements={"all": None, "low": "0", "usual": {}, "band": {"policy": "ski", "layers": 1}},
        override=[{"where": {"condition": "top-m"}, "set": {"top": 1}}],
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
    told = {(f.model, f.objective): (f.runs, f.message) for f in found}
    assert set(told) == {("llama", "masked-lm"), ("llama", "nsp"), ("bert", "nsp"), ("none", None)}
    assert [runs for runs, _ in told.values()] == [2, 2, 2, 6]
    assert "next-sentence head" in told["bert", "nsp"][1]


def test_a_study_that_cannot_work_is_refused_with_every_reason(plain, caplog):
    study = study_from(plain(objectives=["causal-lm", "masked-lm", "nsp"]))
    with pytest.raises(BadInputError, match=r"cannot work, 2 of 3: .*llama masked-lm.*llama nsp"):
        refuse_faults(study, study.cells)
    assert not caplog.records  # It stands in the error, once.
    refuse_faults(study, study.cells[:1])


def test_reasons_that_the_error_has_no_room_for_are_told_before_it(plain, caplog):
    names = ["masked-lm", "nsp", "span-denoise", "sft", "classification"]
    study = study_from(plain(objectives=names))
    with pytest.raises(BadInputError, match=r"llama masked-lm.*2 more above") as refused:
        refuse_faults(study, study.cells)
    told = [refused.value.message, *(record.getMessage() for record in caplog.records)]
    assert [sum(f"llama {name} " in line for line in told) for name in names] == [1] * 5


@pytest.mark.parametrize(
    ("objective", "hint"),
    [
        ("masked-lm", "try: objectives: [causal-lm]"),
        ("sft", "try: prompt_column: NAME, or objectives: [causal-lm]"),
        ("classification", "try: label_column: NAME"),
    ],
)
def test_hints_are_what_a_study_has(faults, objective, hint):
    (fault,) = faults(objectives=[objective])
    assert fault.message.endswith(hint)
    assert "--" not in fault.message


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"defaults": {"stesp": 3}}, r"unknown setting of tune: 'stesp'.*did you mean 'steps'\?"),
        ({"profile": {"readuot": "hf"}}, r"unknown setting of profile: 'readuot'.*'readout'\?"),
    ],
)
def test_a_setting_that_does_not_exist_is_named_alone(plain, keys, match):
    study = study_from(plain(**keys))
    with pytest.raises(UnknownNameError, match=f"^{match}"):
        refuse_faults(study, study.cells)


def test_labels_need_an_objective_for_them(faults, files):
    labels = {"data": str(files / "labelled.jsonl"), "label_column": "label"}
    found = faults(defaults=labels, objectives=["classification"], conditions=["standard", "lora"])
    assert found == ()
    (fault,) = faults(defaults=labels)
    assert "label column has no meaning" in fault.message


def test_a_configuration_is_checked_too(faults, files):
    (fault,) = faults(models={"made": {"pretrain": neox(files, architectures=["NoSuchModel"])}})
    assert fault.runs == 2
    assert "unknown architecture: 'NoSuchModel'" in fault.message
    wordless = neox(files) | {"tokenizer": str(files / "none")}
    (fault,) = faults(models={"made": {"pretrain": wordless}})
    assert "no such model file or folder" in fault.message


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
