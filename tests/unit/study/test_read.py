"""A study's file is read as people mean it, and becomes complete in itself."""

import json

import pytest
import yaml

from layerwise.errors import BadInputError
from layerwise.study.read import checked, read
from support.studies import matrix


def check(tmp_path, **keys):
    return checked(matrix(**keys), folder=tmp_path)


def written(tmp_path, text):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return file


def test_a_study_is_complete_after_reading(tmp_path):
    file = written(tmp_path, yaml.safe_dump(matrix()))
    plain, text = read(file)
    assert text == file.read_bytes()
    assert (plain["seeds"], plain["placements"]) == ([0], {})
    assert plain["distance"] is None
    assert plain["keep_weights"] is False
    assert checked(json.loads(json.dumps(plain)), folder=tmp_path) == plain


def test_numbers_are_read_as_people_mean_them(tmp_path):
    text = yaml.safe_dump(matrix(defaults={})).replace(
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


def test_placements_are_blocks_or_described(tmp_path):
    described = {"policy": "ski", "rank": 4, "alpha": 16.0, "dropout": 0.05, "targets": ["query"]}
    blocks = {"all": None, "a": "0, 1", "b": [3, 7], "c": 4, "d": "a:1,2"}
    placements = {**blocks, "band": described, "low": {"blocks": [0, 1], "rank": 2}}
    found = check(tmp_path, placements=placements)["placements"]
    assert [found[name] for name in blocks] == [None, "0,1", "3,7", "4", "a:1,2"]
    assert found["band"] == {**described, "alpha": 16}
    assert found["low"] == {"blocks": "0,1", "rank": 2}
    assert isinstance(found["band"]["alpha"], int)


def test_a_model_may_be_tuned_on_other_text_first(tmp_path):
    tuned = {"data": "other", "steps": 5, "condition": "lora", "where": "source=x"}
    models = {"m": {"source": "a", "source_tuning": tuned}}
    found = check(tmp_path, models=models)["models"]["m"]["source_tuning"]
    assert found == {**tuned, "where": ["source=x"]}


BOMB = [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
FILES = [
    ("a: 1\na: 2\n", r"the key 'a' stands twice, line 1"),
    ("a: [1, 2\n", r"cannot read the study \(.*line 2"),
    ("just text", "value of study: 'just text'"),
    ("- 1\n", "value of study"),
    ("", "value of study"),
    ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
    ("&a [*a]\n", "values inside values without end"),
    ("schema: layerwise/study/1\nname: &a [*a]\n", "values inside values without end"),
    ("\n".join(["a0: &a0 [1,1,1,1,1,1,1,1,1,1]", *BOMB]), "study of more than 100,000 values"),
    ("[" * 5000, "cannot read the study"),
    ("\0", "cannot read the study"),
]


@pytest.mark.parametrize(("text", "match"), FILES)
def test_a_file_that_is_no_study_is_refused(tmp_path, text, match):
    with pytest.raises(BadInputError, match=match):
        read(written(tmp_path, text))


def test_no_file_and_no_text_are_refused(tmp_path):
    with pytest.raises(BadInputError, match=r"cannot read the study \(No such file"):
        read(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BadInputError, match=r"cannot read the study \(.*codec can.t decode byte"):
        read(tmp_path / "x.yaml")
