"""`distance.json`: the same numbers there and back, under the keys that others build on."""

import json

import pytest

from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from layerwise.distance.record import Distance
from layerwise.errors import SchemaError, UnknownNameError


@pytest.fixture(scope="module")
def distance(tuning):
    loaded, data = tuning.loaded("llama"), tuning.data(20)
    return make_distance(loaded, data, choose(loaded, data), batch_size=5, max_length=16)


def test_save_load_equal(distance, tmp_path):
    (tmp_path / "distance.json").write_bytes(distance.to_json())
    for path in (tmp_path, tmp_path / "distance.json"):
        assert Distance.load(path) == distance
        assert Distance.load(path).to_json() == distance.to_json()


def test_keys_that_others_build_on(distance):
    plain = json.loads(distance.to_json())
    assert plain["schema"] == "layerwise/distance/1"
    assert plain["reference"] == "causal-lm"
    (one, *_) = plain["objectives"]
    assert {"name", "rows", "procrustes", "cosine", "cosine_128", "cosine_32", "pearson"} < set(one)
    assert {"fisher", "mean_norm", "coherence", "nonzero", "halves"} < set(one)
    assert len(one["halves"]) == 2
    assert plain["settings"]["shared"] == [["simcse", "barlow-twins"]]


def test_frame_has_a_line_an_objective_and_part(distance):
    frame = distance.frame()
    assert list(frame.columns[:3]) == ["objective", "part", "rows"]
    assert len(frame) == 4 * 3
    found = frame.query("objective == 'simcse' and part == 'second'").iloc[0]
    assert found.procrustes == distance["simcse"].halves[1].procrustes


def test_objectives_by_name(distance):
    assert distance["simcse"].name == "simcse"
    with pytest.raises(UnknownNameError, match=r"unknown objective: 'simsce'.*'simcse'"):
        distance["simsce"]


def test_other_records_are_refused(distance, tmp_path):
    with pytest.raises(SchemaError, match="no such file"):
        Distance.load(tmp_path)
    file = tmp_path / "distance.json"
    file.write_bytes(distance.to_json().replace(b"distance/1", b"distance/2"))
    with pytest.raises(SchemaError, match="another schema"):
        Distance.load(file)
    file.write_bytes(distance.to_json().replace(b'"procrustes"', b'"procrustean"'))
    with pytest.raises(SchemaError, match="malformed record"):
        Distance.load(file)


def test_printing_it_is_the_table(distance):
    assert str(distance).startswith("Objective distances: llama")
