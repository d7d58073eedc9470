"""Equal steps in processes that work together end with the weights of one alone."""

import pytest
import torch

from support.launch import torchrun
from support.processes.equal_step import train

TAU = 1e-2


def launch(how, world, out):
    out.mkdir()
    torchrun("equal_step", how, world, out, world=world)
    return [torch.load(out / f"rank{r}.pt") for r in range(world)]


@pytest.fixture(scope="module")
def alone():
    return {method: train("plain", method) for method in ("copy", "exact", "sampled")}


@pytest.mark.slow
@pytest.mark.parametrize(("how", "world"), [("ddp", 2), ("fsdp", 2), ("hybrid", 4)])
def test_processes_end_with_the_weights_of_one(alone, tmp_path, how, world):
    ranks = launch(how, world, tmp_path / how)
    assert len(ranks) == world
    for rank in ranks:
        for method, found in rank.items():
            # Each shard is sampled by itself, which is another sample than that of the whole.
            close = 1e-4 if method == "sampled" and how != "ddp" else 1e-6
            for name, weight in alone[method]["weights"].items():
                ended = found["weights"][name]
                assert (ended - weight).norm() / weight.norm() < close, (method, name)
                # And the same bits in every process.
                assert torch.equal(ended, ranks[0][method]["weights"][name])
            assert set(found["ratios"]) == {"0", "2", "3", "4"}
            assert all(r == pytest.approx(TAU, rel=1e-6) for r in found["ratios"].values())
