"""A matrix becomes cells: each combination once, less what is excluded, with its own settings."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwise.errors import BadInputError, UnknownNameError
from layerwise.study.expand import study_from

MODELS, OBJECTIVES = ("a", "b", "c"), ("causal-lm", "simcse", "masked-lm")
CONDITIONS, SEEDS = ("standard", "uniform", "lora"), (0, 1, 2, 3)


def plain(**keys):
    return {
        "schema": "layerwise/study/1",
        "name": "matrix",
        "defaults": {"data": "demo", "steps": 10},
        "models": {name: {"source": name} for name in MODELS},
        "objectives": list(OBJECTIVES),
        "conditions": list(CONDITIONS),
        "seeds": list(SEEDS),
        **keys,
    }


def cells(**keys):
    return study_from(plain(**keys)).cells


def where(cell):
    return cell.model, cell.objective, cell.condition, cell.seed


def test_every_combination_is_there_once_in_order():
    found = [where(cell) for cell in cells()]
    assert found == list(itertools.product(MODELS, OBJECTIVES, CONDITIONS, SEEDS))
    assert len({cell.id for cell in cells()}) == len(found)


RULE = st.fixed_dictionaries(
    {},
    optional={
        "model": st.lists(st.sampled_from(MODELS), min_size=1, unique=True),
        "objective": st.lists(st.sampled_from(OBJECTIVES), min_size=1, unique=True),
        "condition": st.lists(st.sampled_from(CONDITIONS), min_size=1, unique=True),
        "seed": st.lists(st.sampled_from(SEEDS), min_size=1, unique=True),
    },
).filter(bool)


def selected(rule, combination):
    names = ("model", "objective", "condition", "seed")
    return all(
        value in rule[name] for name, value in zip(names, combination, strict=True) if name in rule
    )


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
@given(order=st.permutations(list(plain(exclude=[{"model": "a", "seed": 1}]).items())))
def test_ids_do_not_depend_on_the_order_of_keys(order):
    expected = [c.id for c in cells(exclude=[{"seed": 1, "model": "a"}])]
    assert [c.id for c in study_from(dict(order)).cells] == expected


def test_one_value_need_not_be_a_list():
    assert len(cells(exclude=[{"model": "a", "seed": 0}])) == 108 - 9


def test_a_changed_setting_is_another_run_and_a_new_seed_leaves_the_others():
    before = {cell.id for cell in cells()}
    assert before.isdisjoint(cell.id for cell in cells(defaults={"data": "demo", "steps": 11}))
    assert before < {cell.id for cell in cells(seeds=[*SEEDS, 9])}


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


def pretrained(**keys):
    made = {"pretrain": {"config": {"a": 1}, "tokenizer": "t", "data": "d", "steps": 5}}
    models = {"made": made, "named": {"source": "x"}}
    return cells(models=models, conditions=["standard"], seeds=[0, 1], **keys)


def test_runs_depend_on_the_pretraining_of_their_seed():
    found = pretrained()
    first = [c for c in found if c.stage == "pretrain"]
    assert found[:2] == tuple(first)
    assert [c.seed for c in first] == [0, 1]
    assert first[0].settings == {"config": {"a": 1}, "tokenizer": "t", "data": "d", "steps": 5}
    for cell in found[2:]:
        expected = (first[cell.seed].id,) if cell.model == "made" else ()
        assert cell.after == expected
        assert cell.settings.get("pretrained") == (expected[0] if expected else None)


def test_what_nothing_needs_is_not_pretrained():
    found = pretrained(exclude=[{"model": "made", "seed": 1}])
    assert [c.seed for c in found if c.stage == "pretrain"] == [0]
    assert all(c.model == "named" for c in pretrained(exclude=[{"model": "made"}]))


def test_distances_are_one_a_model_or_one_a_pretrained_seed():
    found = pretrained(distance={"examples": 100})
    apart = [c for c in found if c.stage == "distance"]
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
    found = cells(models=models, distance={"examples": 9})
    apart = [c for c in found if c.stage == "distance"]
    assert [(c.model, c.seed) for c in apart] == [("b", 4)]
    assert "examples" not in apart[0].settings


REFUSED = [
    ({"seeds": []}, BadInputError, "matrix without a run"),
    ({"objectives": []}, BadInputError, "model a without objectives"),
    ({"conditions": []}, BadInputError, "model a without conditions"),
    ({"defaults": {}}, BadInputError, "model a without data"),
    ({"seeds": list(range(40_000))}, BadInputError, "too many runs: '1,080,000'.*1,000,000"),
    ({"exclude": [{"model": "d"}]}, UnknownNameError, r"unknown model in exclude\[0\]: 'd'"),
    ({"exclude": [{"seed": 9}]}, UnknownNameError, r"unknown seed in exclude\[0\]: '9'"),
    (
        {"override": [{"where": {"condition": "lorra"}, "set": {"steps": 1}}]},
        UnknownNameError,
        r"condition in override\[0\]: 'lorra'.*did you mean 'lora'\?",
    ),
    (
        {"exclude": [{"model": "a"}], "override": [{"where": {"model": "a"}, "set": {"steps": 1}}]},
        BadInputError,
        r"override\[0\] that selects no run: 'model: a'",
    ),
    (
        {"placements": {"low": [0]}, "conditions": ["standard"]},
        BadInputError,
        "placements of a study that has no condition for them",
    ),
    (
        {"models": {"a": {"source": "x", "placements": {"low": 0}, "conditions": ["uniform"]}}},
        BadInputError,
        "placements of model a, which has no condition for them",
    ),
]


@pytest.mark.parametrize(("keys", "error", "match"), REFUSED)
def test_what_makes_no_sense_is_refused(keys, error, match):
    with pytest.raises(error, match=match):
        cells(**keys)


def test_a_matrix_that_is_far_too_large_is_refused_at_once():
    models = {f"m{i}": "x" for i in range(100)}
    with pytest.raises(BadInputError, match="matrix of too many runs: '18,000,000'"):
        cells(models=models, seeds=list(range(20_000)))


SOURCE = {
    "data": "other",
    "steps": 7,
    "objective": "classification",
    "condition": "top-m",
    "top": 1,
}


def test_a_model_is_tuned_on_other_text_once_a_seed():
    models = {"a": {"source": "x", "source_tuning": SOURCE}, "b": {"source": "y"}}
    found = study_from(plain(models=models, distance={})).cells
    made = [c for c in found if c.stage == "source"]
    assert list(found[: len(made)]) == made
    assert [(c.model, c.seed) for c in made] == [("a", seed) for seed in SEEDS]
    for cell in made:
        assert (cell.objective, cell.condition) == ("classification", "top-m")
        assert cell.settings == {"source": "x", "data": "other", "steps": 7, "top": 1}
    starts = {cell.id: cell.seed for cell in made}
    for cell in found[len(made) :]:
        if cell.model == "a":
            assert "source" not in cell.settings
            assert cell.after == (cell.settings["pretrained"],)
            assert starts[cell.after[0]] == cell.seed
        else:
            assert (cell.settings["source"], cell.after) == ("y", ())
    distances = [c for c in found if c.stage == "distance"]
    assert [(c.model, c.seed) for c in distances] == [*(("a", seed) for seed in SEEDS), ("b", 0)]


def test_what_is_pretrained_may_be_tuned_on_other_text_too():
    pretrain = {"config": {"a": 1}, "tokenizer": "t", "data": "d"}
    models = {"a": {"pretrain": pretrain, "source_tuning": SOURCE}}
    found = study_from(plain(models=models, seeds=[5])).cells
    first, second, *rest = found
    assert [first.stage, second.stage] == ["pretrain", "source"]
    assert second.after == (first.id,) == (second.settings["pretrained"],)
    assert {cell.after for cell in rest} == {(second.id,)}


def test_a_described_placement_stays_as_it_is():
    described = {"policy": "ski", "rank": 4}
    found = cells(placements={"band": described}, conditions=["lora"])
    assert all(cell.settings["placement"] == described for cell in found)
