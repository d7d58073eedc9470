"""Run by torchrun: the pass in a group of processes; the first writes what it found."""

import runpy
import sys
from pathlib import Path

import numpy as np
import torch.distributed as dist

from layerwise import distributed
from layerwise.capture import capture, plan
from layerwise.objectives import OBJECTIVES

if __name__ == "__main__":
    dist.init_process_group("gloo")
    tiny = runpy.run_path(str(Path(__file__).parents[1] / "tiny.py"))
    name, world, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    assert distributed.world_size() == world
    batches = [tiny["batch"](name, n=3, first=3 * i) for i in range(3)]
    objective = OBJECTIVES["masked-lm" if name == "bert" else "causal-lm"]
    stats = capture(tiny["build"](name), objective, batches, plan())
    arrays = {k: v for k, v in vars(stats).items() if isinstance(v, np.ndarray)}
    arrays |= {f"spectrum{i}": s for i, s in enumerate(stats.spectra)}
    np.savez(out / f"rank{distributed.rank()}.npz", **arrays)
    dist.destroy_process_group()
