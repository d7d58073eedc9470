"""A run of a study, killed where it is asked to be: in the `ledger` the run `run`."""

from pathlib import Path

import torch

from layerwise.profile.probe_reading import ProbeReading
from layerwise.study import tasks
from layerwise.study.ledger import Ledger
from layerwise.study.worker import execute
from layerwise.tuning.trainer import ForwardTrainer
from support.processes import tune
from support.processes.tune import kill_in

DEATHS = {
    **{name: tune.DEATHS[name] for name in ("after the match", "writing a checkpoint")},
    "in training": lambda: kill_in(ForwardTrainer, "compute_loss", at=5),
    "reading the model before": lambda: kill_in(ProbeReading, "states", at=1, after=True),
    "reading the model after": lambda: kill_in(ProbeReading, "states", at=2, after=True),
    # Second of what the stage writes itself: of tuning, the profile; of pretraining, the record.
    "writing the profile": lambda: kill_in(tasks, "write_atomic", at=2),
    "writing the record": lambda: kill_in(tasks, "write_atomic", at=2),
    "before the result": lambda: kill_in(Ledger, "finish", at=1),
    "after the result": lambda: kill_in(Ledger, "finish", at=1, after=True),
}


def main(ledger, run, die=None):
    """`die` is a place in the run, or None."""
    torch.set_num_threads(1)
    if die:
        DEATHS[die]()
    execute(Path(ledger), run)
