"""What a run does in `study.py`: nothing, for as long as it is told to."""

import time
from pathlib import Path

from layerwise.study import worker
from layerwise.study.ledger import open_ledger

__all__ = ["idle", "worker"]  # The worker is imported so that forks cost what they do in earnest.


def idle(root: Path, run_id: str) -> None:
    """Sleep as long as the cell's settings say, and write a result as a real run does."""
    ledger = open_ledger(root)
    lease = ledger.begin(run_id)
    if lease is not None:
        seconds = ledger.cell(run_id).settings["seconds"]
        with lease.kept():
            time.sleep(seconds)
            ledger.finish(run_id, {"slept": seconds}, lease=lease, seconds=seconds)
