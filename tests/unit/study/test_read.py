"""A study's file is checked key by key, and says what to type."""

import json
import re

import pytest
import yaml

from layerwise.errors import BadInputError, SchemaError, UnknownNameError
from layerwise.study.read import checked, read

BASE = {
    "schema": "layerwise/study/1",
    "name": "pocket",
    "defaults": {"data": "demo"},
    "models": {"smol": {"source": "demo"}},
    "objectives": ["causal-lm"],
    "conditions": ["standard"],
}


def check(tmp_path, **keys):
    return checked({**BASE, **keys}, folder=tmp_path)


def written(tmp_path, text):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return file


def test_a_study_is_complete_after_reading(tmp_path):
    file = written(tmp_path, yaml.safe_dump(BASE))
    plain, text = read(file)
    assert text == file.read_bytes()
    assert plain["seeds"] == [0]
    assert plain["placements"] == {}
    assert plain["distance"] is None
    assert plain["keep_weights"] is False
    assert checked(json.loads(json.dumps(plain)), folder=tmp_path) == plain


def test_numbers_are_read_as_people_mean_them(tmp_path):
    text = yaml.safe_dump(BASE | {"defaults": {}}).replace(
        "defaults: {}", "defaults: {data: demo, learning_rate: 2e-5, tau: 1E-3, steps: 60.0}"
    )
    plain, _ = read(written(tmp_path, text))
    assert plain["defaults"] == {"data": "demo", "learning_rate": 2e-5, "tau": 1e-3, "steps": 60}
    assert isinstance(plain["defaults"]["steps"], int)


def test_one_condition_on_rows_need_not_be_a_list(tmp_path):
    plain = check(tmp_path, defaults={"data": "demo", "where": "source=imdb"})
    assert plain["defaults"]["where"] == ["source=imdb"]


def test_a_model_may_be_its_source_alone(tmp_path):
    assert check(tmp_path, models={"smol": "demo"})["models"] == {"smol": {"source": "demo"}}


def test_a_configuration_file_becomes_a_part_of_the_study(tmp_path):
    (tmp_path / "neox.json").write_text('{"model_type": "gpt_neox", "tokenizer": "words"}')
    (tmp_path / "words").mkdir()
    plain = check(tmp_path, models={"neox": {"pretrain": {"config": "neox.json", "data": "demo"}}})
    assert plain["models"]["neox"]["pretrain"] == {
        "config": {"model_type": "gpt_neox"},
        "tokenizer": str(tmp_path / "words"),
        "data": "demo",
    }


@pytest.mark.parametrize(
    ("blocks", "kept"),
    [(None, None), ("0, 1", "0,1"), ([3, 7], "3,7"), (4, "4"), ("a:1,2", "a:1,2")],
)
def test_placements_are_blocks(tmp_path, blocks, kept):
    assert check(tmp_path, placements={"low": blocks})["placements"] == {"low": kept}


def test_placements_may_be_described(tmp_path):
    described = {"policy": "ski", "rank": 4, "alpha": 16.0, "dropout": 0.05, "targets": ["query"]}
    placements = {"band": described, "low": {"blocks": [0, 1], "rank": 2}}
    found = check(tmp_path, placements=placements)["placements"]
    assert found == {"band": {**described, "alpha": 16}, "low": {"blocks": "0,1", "rank": 2}}
    assert isinstance(found["band"]["alpha"], int)


def test_a_model_may_be_tuned_on_other_text_first(tmp_path):
    tuned = {"data": "other", "steps": 5, "condition": "lora", "where": "source=x"}
    models = {"m": {"source": "a", "source_tuning": tuned}}
    found = check(tmp_path, models=models)["models"]["m"]["source_tuning"]
    assert found == {**tuned, "where": ["source=x"]}


UNKNOWN = [
    ({"seed": [0]}, r"unknown key of a study: 'seed'.*did you mean 'seeds'\?"),
    ({"modles": {}}, r"unknown key of a study: 'modles'.*did you mean 'models'\?"),
    ({"exclude": [{"modle": "smol"}]}, r"key in exclude\[0\]: 'modle'.*did you mean 'model'\?"),
    ({"override": [{"where": {"model": "x"}, "sets": {}}]}, r"'sets'.*did you mean 'set'\?"),
]


@pytest.mark.parametrize(("keys", "match"), UNKNOWN)
def test_a_key_that_does_not_exist_is_met_with_the_nearest(tmp_path, keys, match):
    with pytest.raises(UnknownNameError, match=match):
        check(tmp_path, **keys)


REFUSED = [
    ({"name": "../up"}, "name of a study that cannot be a file name"),
    ({"name": None}, "name of a study"),
    ({"models": {"a/b": "demo"}}, "name of a model"),
    ({"models": {"a" * 300: "demo"}}, "name of a model"),
    ({"models": {}}, "study without models"),
    ({"models": None}, "value of models"),
    ({"models": {"m": {}}}, r"models\.m needs one of source and pretrain"),
    ({"models": {"m": {"source": "a", "pretrain": {}}}}, "needs one of source and pretrain"),
    ({"models": {"m": {"source": 3}}}, r"value of models\.m\.source: '3'"),
    ({"models": {"m": {"source": "a\0b"}}}, "not plain text"),
    ({"models": {"m": {"source": "a", "source_tuning": 3}}}, r"value of models\.m\.source_tuning"),
    ({"models": {"m": {"source": "a", "source_tuning": {}}}}, r"source_tuning\.data"),
    (
        {"models": {"m": {"source": "a", "source_tuning": {"data": "d", "seed": 1}}}},
        r"source_tuning\.seed: the matrix sets it",
    ),
    ({"placements": {"low": {"blocks": "top"}}}, r"blocks of placements\.low\.blocks: 'top'"),
    ({"placements": {"low": {"rank": {"a": 1}}}}, r"value of placements\.low\.rank"),
    ({"models": {"m": {"source": "a", "seed": 1}}}, r"models\.m\.seed: the matrix sets it"),
    ({"models": {"m": {"pretrain": {"config": 3}}}}, r"value of models\.m\.pretrain\.config"),
    ({"models": {"m": {"pretrain": {"config": "no.json"}}}}, r"cannot be read \(No such file"),
    ({"models": {"m": {"pretrain": {"config": {}, "data": "d"}}}}, r"pretrain\.tokenizer"),
    ({"defaults": {"condition": "lora"}}, r"defaults\.condition: the matrix sets it"),
    ({"defaults": {"data": {"a": 1}}}, r"value of defaults\.data.*too deep"),
    ({"defaults": [1]}, "value of defaults"),
    ({"defaults": {"steps": float("nan")}}, r"value of defaults\.steps"),
    ({"defaults": {"steps": float("inf")}}, r"value of defaults\.steps"),
    ({"defaults": {"steps": object()}}, r"value of defaults\.steps"),
    ({"defaults": {1: 2}}, "key in defaults that is not plain text"),
    ({"objectives": "causal-lm"}, r"value of objectives.*a list"),
    ({"objectives": ["a", "a"]}, "objectives with a member that stands twice: 'a'"),
    ({"objectives": [3]}, "value of objectives: '3'"),
    ({"seeds": [0, True]}, "value of seeds: 'True'"),
    ({"seeds": [-1]}, "value of seeds: '-1'"),
    ({"seeds": [1, 1]}, "seeds with a member that stands twice"),
    ({"seeds": 3}, "value of seeds: '3'"),
    ({"placements": {"../x": None}}, "name of a placement"),
    ({"placements": {"low": "top"}}, r"blocks of placements\.low: 'top'"),
    ({"exclude": [{}]}, r"exclude\[0\] selects every run"),
    ({"exclude": {"model": "m"}}, "value of exclude.*a list of rules"),
    ({"override": [{"where": {"model": "m"}, "set": {}}]}, r"override\[0\] sets nothing"),
    ({"override": [{"where": {"model": "m"}, "set": {"seed": 1}}]}, "the matrix sets it"),
    ({"override": [{"set": {"steps": 1}}]}, r"value of override\[0\]\.where"),
    ({"keep_weights": "yes"}, "value of keep_weights: 'yes'"),
    ({"distance": [1]}, "value of distance"),
    ({"distance": {"objectives": "simcse"}}, r"value of distance\.objectives"),
]


@pytest.mark.parametrize(("keys", "match"), REFUSED)
def test_what_cannot_be_used_is_refused(tmp_path, keys, match):
    with pytest.raises(BadInputError, match=match):
        check(tmp_path, **keys)


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("study", lambda trust: trust),
        ("defaults", lambda trust: {"defaults": {"data": "demo", **trust}}),
        ("profile", lambda trust: {"profile": trust}),
        ("models.m", lambda trust: {"models": {"m": {"source": "a", **trust}}}),
        ("models.m.pretrain", lambda trust: {"models": {"m": {"pretrain": trust}}}),
        (
            "models.m.source_tuning",
            lambda trust: {"models": {"m": {"source": "a", "source_tuning": trust}}},
        ),
        ("placements.low", lambda trust: {"placements": {"low": {"policy": "ski", **trust}}}),
        ("distance", lambda trust: {"distance": trust}),
        ("probing.probe", lambda trust: {"probing": {"probe": trust}}),
        ("override[0].set", lambda trust: {"override": [{"where": {"seed": 0}, "set": trust}]}),
    ],
)
def test_a_study_cannot_say_that_code_may_run(tmp_path, where, keys, value):
    said = rf"^trust_remote_code in {re.escape(where)}, which a file cannot give: '{value}'.*-code,"
    with pytest.raises(BadInputError, match=said):
        check(tmp_path, **keys({"trust_remote_code": value}))


@pytest.mark.parametrize("schema", ["layerwise/study/2", None, 1])
def test_a_study_of_another_schema_is_refused(tmp_path, schema):
    with pytest.raises(
        SchemaError, match=r"study of another schema.*try: schema: layerwise/study/1"
    ):
        check(tmp_path, schema=schema)


FILES = [
    ("a: 1\na: 2\n", r"the key 'a' stands twice, line 1"),
    ("a: [1, 2\n", r"cannot read the study \(.*line 2"),
    ("just text", "value of study: 'just text'"),
    ("- 1\n", "value of study"),
    ("", "value of study"),
    ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
    ("&a [*a]\n", "values inside values without end"),
    ("[" * 5000, "cannot read the study"),
    ("\0", "cannot read the study"),
]


@pytest.mark.parametrize(("text", "match"), FILES)
def test_a_file_that_is_no_study_is_refused(tmp_path, text, match):
    with pytest.raises(BadInputError, match=match):
        read(written(tmp_path, text))


def test_a_file_that_multiplies_itself_is_refused(tmp_path):
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(BadInputError, match="study of more than 100,000 values"):
        read(written(tmp_path, "\n".join(lines)))


def test_a_list_that_holds_itself_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="values inside values without end"):
        read(written(tmp_path, "schema: layerwise/study/1\nname: &a [*a]\n"))


def test_no_file_and_no_text_are_refused(tmp_path):
    with pytest.raises(BadInputError, match=r"cannot read the study \(No such file"):
        read(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BadInputError, match=r"cannot read the study \(UnicodeDecodeError"):
        read(tmp_path / "x.yaml")
