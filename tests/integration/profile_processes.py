"""Run by torchrun: a watched and an unwatched training, and a control, in a group of processes."""

import json
import runpy
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import Trainer, TrainingArguments

from layerwise import distributed
from layerwise.objectives import OBJECTIVES
from layerwise.profile.callback import DepthCallback
from layerwise.profile.control import RunStorage, run_control
from layerwise.profile.probe_reading import ProbeReading, as_probe_set

PROBES = tuple(f"w{i} w{(3 * i + 1) % 50} w{(7 * i + 2) % 50} w{i % 5}" for i in range(12))


def trained(tuning, out, *callbacks):
    """The weights of a model after some steps on the processes' shares of the data."""
    loaded = tuning["loaded"]("llama")
    ids = torch.randint(11, 60, (16, 9), generator=torch.Generator().manual_seed(3))
    trainer = Trainer(
        model=loaded.model,
        args=TrainingArguments(
            output_dir=str(out), max_steps=3, per_device_train_batch_size=2, learning_rate=1e-2,
            use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in ids],
        processing_class=loaded.tokenizer,
        callbacks=list(callbacks),
    )  # fmt: skip
    assert trainer.args.world_size == distributed.world_size()
    trainer.train()
    return {name: value.clone() for name, value in loaded.model.state_dict().items()}


def controlled(tuning, out, accumulation):
    """The slopes and tau of a control whose steps see the same batches on any number."""
    found = run_control(
        tuning["loaded"]("llama"),
        tuning["data"](),
        OBJECTIVES["causal-lm"],
        reading=ProbeReading(as_probe_set(PROBES), bootstrap=50),
        settings=tuning["settings"](learning_rate=1e-3, accumulation=accumulation),
        keep=RunStorage(out),
    )
    slopes = {name: [s.slope, s.low, s.high] for name, s in found.slopes.items()}
    return {"slopes": slopes, "tau": found.tau, "losses": found.runs[0].equal_step_loss}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    tuning = runpy.run_path(str(Path(__file__).parents[1] / "tiny_tuning.py"))
    world, out = int(sys.argv[1]), Path(sys.argv[2])
    assert distributed.world_size() == world
    callback = DepthCallback(probes=PROBES, every=2, file=out / "depths.jsonl")
    first, second = trained(tuning, out, callback), trained(tuning, out)
    result = {
        "same": all(torch.equal(first[name], second[name]) for name in first),
        "steps": [found.step for found in callback.history],
        "history": [found.profile.slope for found in callback.history],
        "control": controlled(tuning, out, 2 // world),
    }
    (out / f"rank{distributed.rank()}.json").write_text(json.dumps(result))
    dist.destroy_process_group()
