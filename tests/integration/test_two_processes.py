"""Processes together find, train and record what one does; see support/processes/group.py."""

import json

import numpy as np
import pytest
import torch

from layerwise.distance.record import Distance
from support.launch import together
from support.processes import group

pytestmark = pytest.mark.slow

MEASURED = {"forward_seconds", "backward_seconds", "outside_seconds", "activation_bytes"}
TAU = 1e-2


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of what both processes found."""
    folder = tmp_path_factory.mktemp("two")
    said = together("group", folder)
    assert said.codes == [0, 0], said.stderr
    return folder


@pytest.mark.parametrize("name", group.CAPTURED)
def test_they_measure_what_one_does(two, name):
    one = group.captured(name)
    first, second = (dict(np.load(two / f"{name}{rank}.npz")) for rank in range(2))
    assert one.keys() == first.keys() == second.keys()
    for array in one.keys() - MEASURED:
        scale = np.abs(np.nan_to_num(one[array])).max()
        np.testing.assert_allclose(
            first[array], one[array], rtol=1e-6, atol=1e-6 * scale, err_msg=array
        )
        np.testing.assert_array_equal(first[array], second[array], err_msg=array)


def test_they_find_the_distances_that_one_finds(two):
    first, second = (Distance.load(two / f"distance{rank}.json") for rank in range(2))
    one = group.distances()
    assert first.objectives == second.objectives
    found, expected = (made.frame().set_index(["objective", "part"]) for made in (first, one))
    assert list(found.index) == list(expected.index)
    assert found.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6, abs=1e-9)
    assert first.data == one.data
    assert (first.settings.forwards, first.settings.batches) == (
        one.settings.forwards, one.settings.batches,
    )  # fmt: skip


def test_records_disturb_nothing_and_the_control_is_that_of_one(two, tmp_path):
    first, second = (json.loads((two / f"profile{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first["same"]
    assert first["steps"] == [0, 2, 3]
    apart, scale = first["sharded"]
    assert apart < 1e-5 * scale
    lines = (two / "depths.jsonl").read_text().splitlines()
    assert [json.loads(line)["slope"] for line in lines] == first["history"]
    alone = group.watched(tmp_path)
    for seen in ("history", "gradients"):
        assert first[seen] == pytest.approx(alone[seen], rel=1e-3)
    found, one = first["control"], group.controlled(tmp_path, accumulation=2)
    assert found["tau"] == pytest.approx(one["tau"], rel=1e-4)
    assert found["losses"] == pytest.approx(one["losses"], rel=1e-5)
    for name, slope in one["slopes"].items():
        assert found["slopes"][name] == pytest.approx(slope, rel=1e-3)
    assert (two / "runs" / "equal-step-0" / "tune.json").exists()


@pytest.fixture(scope="module")
def alone():
    return {method: group.equal_steps("plain", method) for method in group.METHODS}


@pytest.mark.parametrize(("how", "world"), [("ddp", 2), ("fsdp", 2), ("hybrid", 4)])
def test_equal_steps_end_with_the_weights_of_one(alone, two, tmp_path, how, world):
    if how == "hybrid":
        assert together("group", tmp_path, how, world=world).codes == [0] * world
    folder = tmp_path if how == "hybrid" else two
    ranks = [torch.load(folder / f"{how}{rank}.pt") for rank in range(world)]
    for rank in ranks:
        for method, found in rank.items():
            # Each shard is sampled by itself, which is another sample than that of the whole.
            # Sums of four processes round by themselves, on some processors by 5e-6.
            close = 1e-4 if method == "sampled" and how != "ddp" else 1e-5
            for name, weight in alone[method]["weights"].items():
                ended = found["weights"][name]
                assert (ended - weight).norm() / weight.norm() < close, (method, name)
                # And the same bits in every process.
                assert torch.equal(ended, ranks[0][method]["weights"][name])
            assert set(found["ratios"]) == {"0", "2", "3", "4"}
            assert all(r == pytest.approx(TAU, rel=1e-6) for r in found["ratios"].values())
