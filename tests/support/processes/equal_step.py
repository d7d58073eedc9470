"""Run by torchrun: equal steps over processes; each writes the weights that it ends with.

The rows of a batch are shared out, so that the mean gradient is that of one process alone.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from layerwise import distributed
from layerwise.tuning.equal_step import EqualStep

STEPS = 5


def network():
    torch.manual_seed(0)
    # Uneven on purpose: 1201, 7 and 1 rows cannot be halved.
    return nn.Sequential(
        nn.Linear(1024, 1201), nn.Tanh(), nn.LayerNorm(1201), nn.Linear(1201, 7), nn.Linear(7, 1)
    )


def spread_out(model, how):
    if how == "fsdp":
        for layer in model:
            if any(True for _ in layer.parameters()):
                fully_shard(layer)
        fully_shard(model)
    if how == "hybrid":
        fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("copy", "shard")))
    return DistributedDataParallel(model) if how == "ddp" else model


def train(how, method):
    model = network()
    spread = spread_out(model, how)
    groups = {str(i): list(layer.parameters()) for i, layer in enumerate(model)}
    inner = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    optimizer = EqualStep(inner, groups, 1e-2, method=method, sample=400_000)
    data = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        rows = torch.randn(8, 1024, generator=data)
        mine = rows[distributed.rank() :: distributed.world_size()]
        spread(mine).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    ratios = {name: step.achieved for name, step in optimizer.steps.items()}
    weights = {
        name: p.full_tensor() if hasattr(p, "full_tensor") else p.data
        for name, p in model.named_parameters()
    }
    return {"weights": weights, "ratios": ratios}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    how, world, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    assert distributed.world_size() == world
    found = {method: train(how, method) for method in ("copy", "exact", "sampled")}
    torch.save(found, out / f"rank{distributed.rank()}.pt")
    dist.destroy_process_group()
