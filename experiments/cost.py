"""The cost model held against the clock: a step's time and memory, and inference with adapters.

    python experiments/cost.py steps [--model demo] [--placements 20] [--rounds 3] [--out FILE]
    python experiments/cost.py inference [--model demo] [--rounds 5] [--out FILE]
    python experiments/cost.py tables FILE

`steps` takes real optimizer steps (forward, backward to the lowest adapter, clipping, AdamW) with
adapters on 20 placements: random sets of one block to all, with and without gradient checkpointing.
Each round takes every placement once; a time is the median over rounds. It is compared with two
predictions: the card's alone, as the ratio to adapters on all blocks that `layerwise place` shows;
and in seconds, after three more placements (the last block, the first, all) were timed to learn
what this machine adds. Memory is the allocator's record of one step, compared in the same way.

`inference` times forwards with 0, 1, 2, 4, ... all blocks' adapters unmerged.

With --out, what was measured is added to FILE, one JSON line a call; `tables` shows such lines.
Nothing else should run on the machine; where that cannot be had, --cpu-time counts the processor's
seconds in place of the clock's.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # The profiler that counts bytes talks much.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import layerwise as lw
from laboratory.clock import (
    Measurement,
    StepFit,
    anchors,
    errors,
    fit_bytes,
    fit_seconds,
    step_bytes,
    step_seconds,
)
from laboratory.inference import inference_cost
from layerwise.card.record import LayerCard
from layerwise.data import read
from layerwise.data.batches import Batch
from layerwise.models.load import LoadedModel, load
from layerwise.objectives import Objective, resolve
from layerwise.placement.cost import step_cost
from layerwise.records import to_plain
from layerwise.seeds import numpy_generator

Rows = tuple[int, ...]


class Subject:
    """What is measured: a model, its card, and batches of one size."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.loaded: LoadedModel = load(asked.model, device="cpu", dtype="float32")
        data = read("demo-imdb", examples=asked.batch_size * 4, seed=0)
        objective = "simcse" if self.loaded.kind == "encoder" else "auto"
        how = {"max_length": asked.max_length, "batch_size": asked.batch_size}
        self.card: LayerCard = lw.card(
            self.loaded, data, objective=objective, targets=asked.targets, **how
        )
        self.objective: Objective = resolve(objective, loaded=self.loaded, data=data)
        found = self.objective.batches_for(self.loaded, data, seed=0, **how).batches
        self.batches: list[Batch] = [b for b in found if len(b) == len(found[0])][:3]


def placements(blocks: int, count: int, *, known: Sequence[Rows]) -> list[Rows]:
    """Random sets of one block to all, a new one each, none of `known`, in sizes evenly spread."""
    generator, found = numpy_generator(0, "cost"), dict[Rows, None]()
    sizes = np.linspace(1, blocks - 1, count).round().astype(int)
    for size in sizes:
        for _ in range(100):
            rows = tuple(sorted(generator.permutation(blocks)[:size].tolist()))
            if rows not in found and rows not in known:
                found[rows] = None
                break
    return list(found)


def timed(subject: Subject, sets: Sequence[Rows], asked: argparse.Namespace, *, again: bool) -> Any:
    """The median over rounds of each set's seconds, every round taking each once."""
    clock = time.process_time if asked.cpu_time else time.perf_counter
    found: dict[Rows, list[float]] = {rows: [] for rows in sets}
    for _ in range(asked.rounds):
        for rows, seconds in found.items():
            made = step_seconds(
                subject.loaded,
                subject.objective,
                subject.batches,
                subject.card,
                rows,
                checkpointing=again,
                clock=clock,
            )
            seconds.append(made.value)
    return [Measurement(rows, statistics.median(s)) for rows, s in found.items()]


def weighed(subject: Subject, sets: Sequence[Rows], *, again: bool) -> list[Measurement]:
    batch = subject.batches[0]
    return [
        step_bytes(
            subject.loaded, subject.objective, batch, subject.card, rows, checkpointing=again
        )
        for rows in sets
    ]


def steps(asked: argparse.Namespace) -> dict[str, Any]:
    subject = Subject(asked)
    known = anchors(subject.card)
    tried = placements(len(subject.card.layers), asked.placements, known=known)
    record: dict[str, Any] = {"what": "steps", **about(asked), "measured": []}
    for again in (False, True):
        both = timed(subject, [*known, *tried], asked, again=again)
        fit = fit_seconds(subject.card, both[: len(known)], checkpointing=again)
        record["measured"].append(compared(subject, fit, both, again=again, unit="seconds"))
        both = weighed(subject, [*known, *tried], again=again)
        fit = fit_bytes(subject.card, both[: len(known)], checkpointing=again)
        record["measured"].append(compared(subject, fit, both, again=again, unit="bytes"))
    return record


def compared(
    subject: Subject, fit: StepFit, both: Sequence[Measurement], *, again: bool, unit: str
) -> dict[str, Any]:
    """The measurements with what was predicted of them; what the fit is from stands apart."""
    tried, whole = both[3:], both[2]
    off = errors(fit.of, tried)
    found = {
        "unit": unit,
        "checkpointing": again,
        "fit": {"fixed": fit.fixed, "depth": fit.depth, "module": fit.module},
        "fitted_to": [to_plain(m) for m in both[:3]],
        "placements": [
            {**to_plain(m), "predicted": fit.of(m.rows), "error": float(e)}
            for m, e in zip(tried, off, strict=True)
        ],
        "median_error": float(np.median(off)),
        "largest_error": float(off.max()),
    }
    if unit == "seconds" and not again:
        ratios = [Measurement(m.rows, m.value / whole.value) for m in tried]
        alone = errors(lambda rows: step_cost(subject.card).relative(rows).step_ratio, ratios)
        found["median_error_of_card_ratio"] = float(np.median(alone))
        found["largest_error_of_card_ratio"] = float(alone.max())
    return found


def inference(asked: argparse.Namespace) -> dict[str, Any]:
    subject = Subject(asked)
    size = len(subject.card.layers)
    blocks = sorted({0, *(2**i for i in range(10) if 2**i < size), size})
    clock = time.process_time if asked.cpu_time else time.perf_counter
    found = inference_cost(
        subject.loaded,
        subject.card,
        subject.batches[0],
        blocks=blocks,
        rounds=asked.rounds,
        clock=clock,
    )
    return {"what": "inference", **about(asked), **to_plain(found)}


def about(asked: argparse.Namespace) -> dict[str, Any]:
    """How it was measured."""
    return {
        "model": Path(asked.model).name if Path(asked.model).exists() else asked.model,
        "targets": asked.targets,
        "batch_size": asked.batch_size,
        "max_length": asked.max_length,
        "rounds": asked.rounds,
        "threads": torch.get_num_threads(),
        "clock": "processor" if asked.cpu_time else "wall",
        "torch": torch.__version__,
    }


def show(record: Mapping[str, Any]) -> None:
    console = Console()
    title = f"{record['model']}, {record['batch_size']} x {record['max_length']} tokens"
    if record["what"] == "inference":
        table = Table("blocks", "modules", "seconds", "beside none", title=title)
        base = record["base_seconds"]
        for point in record["points"]:
            beside = f"{point['seconds'] / base:.2f}"
            table.add_row(
                str(point["blocks"]), str(point["modules"]), f"{point['seconds']:.4f}", beside
            )
        console.print(table)
        console.print(
            f"a module adds {record['module_seconds'] * 1e6:.0f} microseconds; "
            f"the line explains {record['explained']:.3f} of the variance"
        )
        return
    table = Table("what", "checkpointing", "placements", "median error", "largest", title=title)
    for found in record["measured"]:
        count, again = str(len(found["placements"])), "yes" if found["checkpointing"] else "no"
        shown = [f"{found[k]:.1%}" for k in ("median_error", "largest_error")]
        table.add_row(f"{found['unit']}, three timed", again, count, *shown)
        if "median_error_of_card_ratio" in found:
            keys = ("median_error_of_card_ratio", "largest_error_of_card_ratio")
            table.add_row("ratio, card alone", again, count, *(f"{found[k]:.1%}" for k in keys))
    console.print(table)


def main() -> None:
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("command", choices=["steps", "inference", "tables"])
    made.add_argument("file", type=Path, nargs="?")
    made.add_argument("--model", default="demo")
    made.add_argument("--targets", type=lambda t: t.split(","), help="module names, with commas")
    made.add_argument("--placements", type=int, default=20)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--batch-size", type=int, default=8)
    made.add_argument("--max-length", type=int, default=48)
    made.add_argument("--cpu-time", action="store_true")
    made.add_argument("--out", type=Path)
    asked = made.parse_args()
    if asked.command == "tables":
        for line in asked.file.read_text(encoding="utf-8").splitlines():
            show(json.loads(line))
        return
    record = steps(asked) if asked.command == "steps" else inference(asked)
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        with asked.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, allow_nan=False) + "\n")
    show(record)


if __name__ == "__main__":
    main()
