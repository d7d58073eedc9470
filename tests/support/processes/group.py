"""The findings of a group of processes; each writes its own into the folder it is told.

With words beside the folder it trains at equal steps alone, spread out as they say.
"""

import json
import os

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainingArguments

from layerwise import distributed
from layerwise.capture import capture, plan
from layerwise.distance.choose import choose
from layerwise.distance.make import make_distance
from layerwise.objectives import OBJECTIVES
from layerwise.profile.callback import DepthCallback
from layerwise.profile.control import ControlPlan, RunStorage, run_control
from layerwise.profile.probe_reading import ProbeReading, as_probe_set
from layerwise.tuning.equal_step import EqualStep
from support import tuning
from support.batches import batch, build

CAPTURED = ("llama", "bert")
SPREAD = ("ddp", "fsdp")
METHODS = ("copy", "exact", "sampled")
STEPS = 5
PROBES = tuple(f"w{i} w{(3 * i + 1) % 50} w{(7 * i + 2) % 50} w{i % 5}" for i in range(12))


def captured(name):
    """The arrays of a pass over three batches."""
    batches = [batch(name, n=3, first=3 * i) for i in range(3)]
    objective = OBJECTIVES["masked-lm" if name == "bert" else "causal-lm"]
    stats = capture(build(name), objective, batches, plan())
    arrays = {k: v for k, v in vars(stats).items() if isinstance(v, np.ndarray)}
    return arrays | {f"spectrum{i}": s for i, s in enumerate(stats.spectra)}


def distances():
    """Distances of the objectives of a model that has both heads."""
    loaded, data = tuning.loaded("pretraining"), tuning.data(27)
    return make_distance(loaded, data, choose(loaded, data), batch_size=5, max_length=16)


def controlled(out, accumulation):
    """The slopes and tau of a control whose steps see the same batches on any number."""
    found = run_control(
        tuning.loaded("llama"),
        tuning.data(),
        OBJECTIVES["causal-lm"],
        reading=ProbeReading(as_probe_set(PROBES), bootstrap=50),
        settings=tuning.settings(learning_rate=1e-3, accumulation=accumulation),
        plan=ControlPlan((0,)),
        keep=RunStorage(out),
    )
    slopes = {name: s.slope for name, s in found.slopes.items()}
    return {"slopes": slopes, "tau": found.tau, "losses": found.runs[0].equal_step_loss}


def profiled(out):
    """A training that a callback watches, and a control."""
    return {
        **watched(out),
        "control": controlled(out, accumulation=1),
        "sharded": sharded(),
    }


def watched(out):
    """What a callback sees of a training, and whether its weights are those without."""
    callback = DepthCallback(probes=PROBES, every=2, file=out / "depths.jsonl", signals=True)
    first, second = _trained(out, callback), _trained(out)
    return {
        "same": all(torch.equal(first[name], second[name]) for name in first),
        "steps": [found.step for found in callback.history],
        "history": [found.profile.slope for found in callback.history],
        "gradients": list(callback.signals.activation_gradient),
    }


def sharded():
    """Return how far states of a model that FSDP2 spreads are from the whole one's in training."""
    models = [tuning.loaded("llama") for _ in range(2)]
    for layer in models[1].model.model.layers:
        fully_shard(layer)
    fully_shard(models[1].model)
    reading, apart = ProbeReading(as_probe_set(PROBES)), []
    optimizers = [torch.optim.SGD(loaded.model.parameters(), lr=0.1) for loaded in models]
    ids = torch.randint(11, 60, (4, 9), generator=torch.Generator().manual_seed(3))
    for _ in range(3):
        whole, spread = (reading.states(loaded).pooled for loaded in models)
        apart += [float(np.abs(spread[name] - states).max()) for name, states in whole.items()]
        for loaded, optimizer in zip(models, optimizers, strict=True):
            loaded.model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return max(apart), float(np.abs(whole["residual"]).max())


def _trained(out, *callbacks):
    """The weights of a model after some steps on the processes' shares of four examples each."""
    loaded = tuning.loaded("llama")
    ids = torch.randint(11, 60, (16, 9), generator=torch.Generator().manual_seed(3))
    trainer = Trainer(
        model=loaded.model,
        args=TrainingArguments(
            output_dir=str(out), max_steps=3, learning_rate=1e-2,
            per_device_train_batch_size=4 // distributed.world_size(),
            use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in ids],
        processing_class=loaded.tokenizer,
        callbacks=list(callbacks),
    )  # fmt: skip
    assert trainer.args.world_size == distributed.world_size()
    trainer.train()
    return {name: value.clone() for name, value in loaded.model.state_dict().items()}


def _spread_out(model, how):
    if how == "fsdp":
        for layer in model:
            if any(True for _ in layer.parameters()):
                fully_shard(layer)
        fully_shard(model)
    if how == "hybrid":
        fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("copy", "shard")))
    return DistributedDataParallel(model) if how == "ddp" else model


def equal_steps(how, method):
    """The weights and ratios of equal steps, whose batches' rows are shared out.

    So the mean gradient is that of one process alone.
    """
    torch.manual_seed(0)
    # Uneven on purpose: 1201, 7 and 1 rows cannot be halved.
    model = nn.Sequential(
        nn.Linear(1024, 1201), nn.Tanh(), nn.LayerNorm(1201), nn.Linear(1201, 7), nn.Linear(7, 1)
    )
    spread = _spread_out(model, how)
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


def main(folder, *spread):
    dist.init_process_group("gloo")
    assert distributed.world_size() == int(os.environ["WORLD_SIZE"])
    rank = distributed.rank()
    for how in spread or SPREAD:
        found = {method: equal_steps(how, method) for method in METHODS}
        torch.save(found, folder / f"{how}{rank}.pt")
    if not spread:
        for name in CAPTURED:
            np.savez(folder / f"{name}{rank}.npz", **captured(name))
        (folder / f"distance{rank}.json").write_bytes(distances().to_json())
        (folder / f"profile{rank}.json").write_text(json.dumps(profiled(folder)))
    dist.destroy_process_group()
