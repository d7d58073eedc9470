"""Two processes under torchrun find the distances that one finds."""

import pytest

from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from layerwise.distance.record import Distance
from support.launch import torchrun


@pytest.mark.slow  # Two processes, each of which imports torch and transformers.
def test_two_processes_equal_one(tuning, tmp_path):
    torchrun("distance", 2, tmp_path)
    first, second = (Distance.load(tmp_path / f"rank{rank}.json") for rank in range(2))
    loaded, data = tuning.loaded("pretraining"), tuning.data(27)
    one = make_distance(loaded, data, choose(loaded, data), batch_size=5, max_length=16)
    assert first.objectives == second.objectives
    found, expected = (made.frame().set_index(["objective", "part"]) for made in (first, one))
    assert list(found.index) == list(expected.index)
    assert found.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6, abs=1e-9)
    assert first.data == one.data
    assert (first.settings.forwards, first.settings.batches) == (
        one.settings.forwards, one.settings.batches,
    )  # fmt: skip
