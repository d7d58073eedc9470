"""A distance record in hand: by objective, as a table, as it prints."""

import pytest

from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from layerwise.errors import UnknownNameError


@pytest.fixture(scope="module")
def distance(tuning):
    loaded, data = tuning.loaded("llama"), tuning.data(20)
    return make_distance(loaded, data, choose(loaded, data), batch_size=5, max_length=16)


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
    assert str(distance).startswith("Objective distances: llama")
