"""A matrix becomes cells: each combination once, less what is excluded, with its own settings."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwise.errors import BadInputError
from layerwise.study.check import check
from layerwise.study.expand import study_from
from layerwise.study.schema import study_schema
from layerwise.study.stages import STAGES, Stage
from support.studies import MADE, matrix

MODELS, OBJECTIVES = ("a", "b", "c"), ("causal-lm", "simcse", "masked-lm")
CONDITIONS, SEEDS = ("standard", "uniform", "lora"), (0, 1, 2, 3)


def spanned(**keys):
    return matrix(
        **{
            "defaults": {"data": "demo", "steps": 10},
            "models": {name: {"source": name} for name in MODELS},
            "objectives": list(OBJECTIVES),
            "conditions": list(CONDITIONS),
            "seeds": list(SEEDS),
            **keys,
        }
    )


def cells(**keys):
    return study_from(spanned(**keys)).cells


def where(cell):
    return cell.model, cell.objective, cell.condition, cell.seed


def of(cells, stage):
    return [cell for cell in cells if cell.stage == stage]


def test_every_combination_is_there_once_in_order():
    found = [where(cell) for cell in cells()]
    assert found == list(itertools.product(MODELS, OBJECTIVES, CONDITIONS, SEEDS))
    assert len({cell.id for cell in cells()}) == len(found)


AXES = {"model": MODELS, "objective": OBJECTIVES, "condition": CONDITIONS, "seed": SEEDS}
SOME = {
    axis: st.lists(st.sampled_from(values), min_size=1, unique=True)
    for axis, values in AXES.items()
}
RULE = st.fixed_dictionaries({}, optional=SOME).filter(bool)


def selected(rule, combination):
    return all(v in rule[axis] for axis, v in zip(AXES, combination, strict=True) if axis in rule)


@given(rules=st.lists(RULE, min_size=1, max_size=3))
def test_exclusions_take_what_they_select_and_nothing_else(rules):
    everything = list(itertools.product(MODELS, OBJECTIVES, CONDITIONS, SEEDS))
    left = [c for c in everything if not any(selected(rule, c) for rule in rules)]
    if not left:
        with pytest.raises(BadInputError, match="matrix without a run"):
            cells(exclude=rules)
    else:
        assert [where(cell) for cell in cells(exclude=rules)] == left


@given(rule=RULE)
def test_overrides_set_what_they_select_and_nothing_else(rule):
    for cell in cells(override=[{"where": rule, "set": {"steps": 3}}]):
        assert cell.settings["steps"] == (3 if selected(rule, where(cell)) else 10)


@pytest.mark.slow
@given(order=st.permutations(list(spanned(exclude=[{"model": "a", "seed": 1}]).items())))
def test_ids_do_not_depend_on_the_order_of_keys(order):
    expected = [c.id for c in cells(exclude=[{"seed": 1, "model": "a"}])]
    assert [c.id for c in study_from(dict(order)).cells] == expected


def test_one_value_need_not_be_a_list():
    assert len(cells(exclude=[{"model": "a", "seed": 0}])) == 108 - 9


def test_a_changed_setting_is_another_run_and_a_new_seed_leaves_the_others():
    before = {cell.id for cell in cells()}
    assert before.isdisjoint(cell.id for cell in cells(defaults={"data": "demo", "steps": 11}))
    assert before < {cell.id for cell in cells(seeds=[*SEEDS, 9])}


def test_a_condition_whose_rule_changed_is_another_run_and_the_others_are_the_same():
    for cell in cells(conditions=["frozen-lower", "uniform"]):
        earlier = replace(cell, rule=None)
        assert (earlier.id == cell.id) is (cell.condition == "uniform")
        assert "rule" not in earlier.spec()


def test_a_model_overrides_the_study_and_rules_override_both():
    models = {
        "a": {"source": "x", "steps": 20, "objectives": ["nsp"], "profile": {"bootstrap": 5}},
        "b": {"source": "y", "conditions": ["uniform"], "seeds": [7]},
    }
    rules = [
        {"where": {"model": "a", "seed": 1}, "set": {"steps": 30, "profile": {"bootstrap": 6}}},
        {"where": {"seed": 1}, "set": {"batch_size": 2}},
    ]
    found = cells(models=models, override=rules, profile={"bootstrap": 4, "readout": "hf"})
    mine = {(c.seed, c.settings["steps"]) for c in found if c.model == "a"}
    assert mine == {(0, 20), (1, 30), (2, 20), (3, 20)}
    assert {c.objective for c in found if c.model == "a"} == {"nsp"}
    ruled = next(c for c in found if c.model == "a" and c.seed == 1).settings
    assert ruled["profile"] == {"bootstrap": 6, "readout": "hf"}
    assert ruled["batch_size"] == 2
    others = [c for c in found if c.model == "b"]
    assert {(c.condition, c.seed) for c in others} == {("uniform", 7)}
    assert others[0].settings["profile"] == {"bootstrap": 4, "readout": "hf"}


def test_placements_are_for_adapters_alone():
    found = cells(placements={"all": None, "low": [0, 1]})
    placed = {(c.condition, c.placement, c.settings["placement"]) for c in found}
    assert placed == {
        ("standard", None, None),
        ("uniform", None, None),
        ("lora", "all", None),
        ("lora", "low", "0,1"),
    }
    described = {"policy": "ski", "rank": 4}
    found = cells(placements={"band": described}, conditions=["lora"])
    assert all(cell.settings["placement"] == described for cell in found)


def pretrained(**keys):
    models = {"made": MADE, "named": {"source": "x"}}
    return cells(models=models, conditions=["standard"], seeds=[0, 1], **keys)


def test_runs_depend_on_the_pretraining_of_their_seed():
    found = pretrained()
    first = of(found, "pretrain")
    assert found[:2] == tuple(first)
    assert [c.seed for c in first] == [0, 1]
    assert first[0].settings == {"config": {"a": 1}, "tokenizer": "t", "data": "d"}
    for cell in found[2:]:
        expected = (first[cell.seed].id,) if cell.model == "made" else ()
        assert cell.after == expected
        assert cell.settings.get("pretrained") == (expected[0] if expected else None)


def test_what_nothing_needs_is_not_pretrained():
    found = pretrained(exclude=[{"model": "made", "seed": 1}])
    assert [c.seed for c in of(found, "pretrain")] == [0]
    assert all(c.model == "named" for c in pretrained(exclude=[{"model": "made"}]))


def test_distances_are_one_a_model_or_one_a_pretrained_seed():
    apart = of(pretrained(distance={"examples": 100}), "distance")
    assert [(c.model, c.seed, len(c.after)) for c in apart] == [
        ("made", 0, 1),
        ("made", 1, 1),
        ("named", 0, 0),
    ]
    assert apart[2].settings == {
        "source": "x",
        "data": "demo",
        "objectives": list(OBJECTIVES),
        "examples": 100,
    }


def test_a_model_may_have_no_distances_or_its_own():
    models = {"a": {"source": "x", "distance": None}, "b": {"source": "y", "distance": {"seed": 4}}}
    (apart,) = of(cells(models=models, distance={"examples": 9}), "distance")
    assert (apart.model, apart.seed) == ("b", 4)
    assert "examples" not in apart.settings


def test_runs_need_data():
    with pytest.raises(BadInputError, match=r"model a without data; expected defaults: \{data: D"):
        cells(defaults={})


SOURCE = {"data": "other", "steps": 7, "objective": "sft", "condition": "top-m", "top": 1}


def test_runs_begin_from_a_model_that_was_tuned_on_other_text():
    models = {"a": {"source": "x", "source_tuning": SOURCE}, "b": {"source": "y"}}
    found = cells(models=models, distance={"examples": 5})
    sources = of(found, "source")
    assert [(c.model, c.seed, c.objective, c.condition) for c in sources] == [
        ("a", seed, "sft", "top-m") for seed in SEEDS
    ]
    assert sources[0].settings == {"source": "x", "data": "other", "steps": 7, "top": 1}
    starts = {cell.id: cell.seed for cell in sources}
    for cell in found[len(sources) :]:
        if cell.model == "a":
            assert "source" not in cell.settings
            assert cell.after == (cell.settings["pretrained"],)
            assert starts[cell.after[0]] == cell.seed
        else:
            assert (cell.settings["source"], cell.after) == ("y", ())
    apart = of(found, "distance")
    assert [(c.model, c.seed) for c in apart] == [*(("a", seed) for seed in SEEDS), ("b", 0)]


def test_what_is_pretrained_may_be_tuned_on_other_text_too():
    first, second, *rest = cells(models={"a": {**MADE, "source_tuning": SOURCE}}, seeds=[5])
    assert [first.stage, second.stage] == ["pretrain", "source"]
    assert second.after == (first.id,) == (second.settings["pretrained"],)
    assert {cell.after for cell in rest} == {(second.id,)}


def test_a_row_alone_adds_a_stage_that_runs_before_others(plain, files):
    """It stands under its key in a model, is checked, and the model's other runs start from it."""
    checked, settings = [], STAGES["source"].settings
    row = Stage("distil", settings, print, lambda _, cell: checked.append(cell), makes="teacher")
    STAGES.add(row)
    try:
        asked = {"data": str(files / "texts.txt"), "steps": 2, "condition": "lora"}
        models = {"llama": {"source": str(files / "llama"), "teacher": asked}}
        pairs = {"pairs": str(files / "pairs.jsonl")}
        study = study_from(plain(models=models, probing={"erase": pairs}))
        first, *others = study.cells
        assert (first.stage, first.condition, first.settings["steps"]) == ("distil", "lora", 2)
        assert {cell.settings["pretrained"] for cell in others} == {first.id}
        assert check(study, study.cells) == ()
        assert checked == [first]
        (model,) = study_schema()["properties"]["models"]["additionalProperties"]["anyOf"][1:]
        assert "steps" in model["properties"]["teacher"]["properties"]
        with pytest.raises(BadInputError, match=r"value of models\.m\.teacher\.data"):
            study_from(plain(models={"m": {"source": "a", "teacher": {}}}))
    finally:
        STAGES.remove("distil")
