"""Short runs, alone or in a group of processes, of which the first writes the weights.

What is asked is for each run `model`, `out` (a folder), `weights` (a file), `options`
for the run, `drop`, a checkpoint to be removed first, and `die`, which says where the process
kills itself as `kill -9` would.
"""

import json
import os
import shutil
import signal

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from layerwise import distributed
from layerwise.tuning import checkpoints
from layerwise.tuning.trainer import ForwardTrainer
from support import tuning


def kill_in(owner, name, *, at, after=False):
    """Have the process killed in the `at`-th call of a function, before or after what it does."""
    plain, calls = getattr(owner, name), [0]

    def killed(*args, **options):
        calls[0] += 1
        found = plain(*args, **options) if after or calls[0] != at else None
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, killed)


DEATHS = {
    # Steps are of two forwards; checkpoints come after steps 2, 4 and 6.
    "before the first checkpoint": lambda: kill_in(ForwardTrainer, "compute_loss", at=2),
    "in the middle of an accumulation": lambda: kill_in(ForwardTrainer, "compute_loss", at=6),
    "after the match": lambda: kill_in(ForwardTrainer, "compute_loss", at=12),
    "after a step": lambda: kill_in(ForwardTrainer, "log", at=5, after=True),
    "writing a checkpoint": lambda: kill_in(torch, "save", at=4),
    "sealing a checkpoint": lambda: kill_in(checkpoints, "write_atomic", at=2),
    "before the last one is dropped": lambda: kill_in(checkpoints.Checkpoints, "settle", at=5),
    "at the end": lambda: kill_in(ForwardTrainer, "_finalize_training", at=1),
}


def spoil():
    """Have the second process's loss of its second step be no number."""
    if distributed.rank() == 1:
        plain, calls = ForwardTrainer._losses, []

        def spoilt(self, model, forward):
            calls.append(1)
            losses = plain(self, model, forward)
            return losses * float("nan") if len(calls) == 2 else losses

        ForwardTrainer._losses = spoilt


DEATHS["spoilt in the second process"] = spoil


def one_run(model, out, weights, options, die=None, drop=None):
    if drop:  # Every process is done with it: they met when the run before ended.
        distributed.all_gather(None)
        if distributed.rank() == 0:
            shutil.rmtree(out / "checkpoints" / drop)
        distributed.all_gather(None)
    if die:
        DEATHS[die]()
    made = tuning.tune(model, folder=out, **options)
    if distributed.rank() == 0:
        own = {n: p.detach().contiguous() for n, p in made.loaded.model.named_parameters()}
        save_file(own, weights)
        said = {"tau": made.record.tau, "outcome": vars(made.record.outcome), "log": made.log}
        weights.with_suffix(".json").write_text(json.dumps(said))


def main(runs):
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
        assert distributed.world_size() == int(os.environ["WORLD_SIZE"]) > 1
    torch.set_num_threads(1)
    for run in runs:
        run["out"].mkdir(exist_ok=True)
        one_run(**run)
    if dist.is_initialized():
        dist.destroy_process_group()
