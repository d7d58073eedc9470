"""Run by torchrun: distances in a group of processes."""

import sys
from pathlib import Path

import torch.distributed as dist

from layerwise import distributed
from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from support import tuning

if __name__ == "__main__":
    dist.init_process_group("gloo")
    world, out = int(sys.argv[1]), Path(sys.argv[2])
    assert distributed.world_size() == world
    loaded, data = tuning.loaded("pretraining"), tuning.data(27)
    made = make_distance(loaded, data, choose(loaded, data), batch_size=5, max_length=16)
    (out / f"rank{distributed.rank()}.json").write_bytes(made.to_json())
    dist.destroy_process_group()
