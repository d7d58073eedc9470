"""What a study costs beside its runs: the runner's overhead, and the status of a large ledger.

    python benchmarks/study.py                        1,000 runs of one second; 100,000 cells
    python benchmarks/study.py --runs 50 --cells 5000

Asked: at most 2 % over 1,000 one-second runs at one worker, from the first run's start to the last
one's result; expansion and status of a ledger of 100,000 runs in less than 10 s.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from layerwise.study.engines.local import LocalEngine
from layerwise.study.expand import study_from
from layerwise.study.ledger import create
from layerwise.study.runner import run
from layerwise.study.status import status_of


def plain(seeds: int, **settings: Any) -> dict[str, Any]:
    """A study of one model, ten objectives and conditions together, and so many seeds."""
    return {
        "schema": "layerwise/study/1",
        "name": "benchmark",
        "defaults": {"data": "demo", **settings},
        "models": {"model": "demo"},
        "objectives": [f"objective-{i}" for i in range(5)],
        "conditions": ["standard", "uniform"],
        "seeds": list(range(seeds)),
    }


def overhead(folder: Path, *, runs: int, seconds: float) -> dict[str, float]:
    """The share that the runner adds to `runs` runs of `seconds` at one worker."""
    sys.path.insert(0, str(Path(__file__).parent))
    from study_work import idle

    study = study_from(plain(runs // 10, seconds=seconds))
    ledger = create(folder / "overhead", study)
    times: list[float] = []
    engine = LocalEngine(ledger.root, workers=1, execute=idle)
    began = time.perf_counter()
    status = run(study, ledger, engine, on_change=lambda _: times.append(time.perf_counter()))
    whole = time.perf_counter() - began
    assert status.done == len(study.cells)
    done = [t for t in times if t > times[0]]
    # From the first result on, so that the one import before all runs is told apart.
    first = next(t for t in done if t - times[0] >= seconds)
    each = (times[-1] - first) / (len(study.cells) - 1)
    return {
        "runs": len(study.cells),
        "seconds_each": seconds,
        "overhead_percent": round(100 * (each / seconds - 1), 2),
        "overhead_with_start_percent": round(100 * (whole / (seconds * status.done) - 1), 2),
    }


def large(folder: Path, *, cells: int) -> dict[str, float]:
    """How long expansion and status take over a ledger most of whose runs are done."""
    study = study_from(plain(cells // 10, steps=60))
    ledger = create(folder / "large", study)
    for number, cell in enumerate(study.cells):
        where = ledger.runs / cell.id
        where.mkdir()
        (where / "spec.json").write_bytes(b"{}")
        ended = "failure" if number % 100 == 0 else "result"
        record = {"schema": f"layerwise/{ended}/1", "run": cell.id, "seconds": 1.0, "kind": "oom"}
        (where / f"{ended}.json").write_text(json.dumps({**record, "message": "", "where": ""}))
        (where / "lease.1.json").write_text("{}")
        os.utime(where / "lease.1.json", (0, 0))  # As it is released.
    began = time.perf_counter()
    status = status_of(ledger.root)
    took = time.perf_counter() - began
    assert status.done + sum(status.failed.values()) == status.total == len(study.cells)
    return {"cells": status.total, "expansion_and_status_seconds": round(took, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--cells", type=int, default=100_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        print(json.dumps(large(folder, cells=options.cells), indent=1))
        print(json.dumps(overhead(folder, runs=options.runs, seconds=options.seconds), indent=1))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
