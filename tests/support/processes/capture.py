"""Run by torchrun: the pass in a group of processes; each writes what it found."""

import sys
from pathlib import Path

import numpy as np
import torch.distributed as dist

from layerwise import distributed
from layerwise.capture import capture, plan
from layerwise.objectives import OBJECTIVES
from support.batches import batch, build


def measured(name):
    """The arrays of a pass over three batches."""
    batches = [batch(name, n=3, first=3 * i) for i in range(3)]
    objective = OBJECTIVES["masked-lm" if name == "bert" else "causal-lm"]
    stats = capture(build(name), objective, batches, plan())
    arrays = {k: v for k, v in vars(stats).items() if isinstance(v, np.ndarray)}
    return arrays | {f"spectrum{i}": s for i, s in enumerate(stats.spectra)}


def main(world, out, *names):
    dist.init_process_group("gloo")
    assert distributed.world_size() == int(world)
    for name in names:
        np.savez(Path(out) / f"{name}{distributed.rank()}.npz", **measured(name))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
