"""Run by tests: a run of a study, killed where it is asked to be.

What is asked is JSON: the `ledger`, the `run`, and `die`, a place in the run, or null.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import torch

from layerwise.profile.probe_reading import ProbeReading
from layerwise.study import stages
from layerwise.study.ledger import Ledger
from layerwise.study.worker import execute

TUNE = runpy.run_path(str(Path(__file__).with_name("tune_once.py")))
kill_in = TUNE["kill_in"]

DEATHS = {
    **{name: TUNE["DEATHS"][name] for name in ("after the match", "writing a checkpoint")},
    "in training": lambda: kill_in(TUNE["ForwardTrainer"], "compute_loss", at=5),
    "reading the model before": lambda: kill_in(ProbeReading, "states", at=1, after=True),
    "reading the model after": lambda: kill_in(ProbeReading, "states", at=2, after=True),
    # Second of what the stage writes itself: of tuning, the profile; of pretraining, the record.
    "writing the profile": lambda: kill_in(stages, "write_atomic", at=2),
    "writing the record": lambda: kill_in(stages, "write_atomic", at=2),
    "before the result": lambda: kill_in(Ledger, "finish", at=1),
    "after the result": lambda: kill_in(Ledger, "finish", at=1, after=True),
}


def main(ledger, run, die):
    torch.set_num_threads(1)
    if die:
        DEATHS[die]()
    execute(Path(ledger), run)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main(**json.loads(globals().get("asked") or sys.argv[1]))
