"""What an equal step costs, as ratios to fused AdamW's step on the same parameters.

    python benchmarks/equal_step.py              # time and memory at GPT-2's 124M parameters
    python benchmarks/equal_step.py --accuracy   # what the sample's ratio is off by, too

GPT-2's shapes in float32, 13 layer groups (12 blocks and the rest), random gradients. Everything
is measured in one process on the same weights and gradients, the contestants in turn
(A B A B ...), after a round that is not counted; ratios are of one round, and their median is
given with the range. Memory is what the steps take beyond AdamW's two moments, the most in any
round. LAMB comes from `pip install --no-deps pytorch-optimizer`. Nothing else should run on the
machine.
"""

import argparse
import statistics
import time

import torch
from pytorch_optimizer import Lamb
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.tuning.equal_step import EqualStep

CPU = torch.device("cpu")
WIDTH, BLOCKS, TAU = 768, 12, 1e-3
BLOCK = [(3 * WIDTH, WIDTH), (WIDTH, WIDTH), (4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH)]
VECTORS = [(3 * WIDTH,), (WIDTH,), (4 * WIDTH,), (WIDTH,), *[(WIDTH,)] * 4]
REST = [(50257, WIDTH), (1024, WIDTH), (WIDTH,), (WIDTH,)]
Groups = dict[str, list[nn.Parameter]]


def tensors(shapes: list[tuple[int, ...]], seed: int) -> list[nn.Parameter]:
    """Parameters of GPT-2's scale, with gradients of a clipped step's."""
    chance = torch.Generator().manual_seed(seed)
    made = [nn.Parameter(0.02 * torch.randn(shape, generator=chance)) for shape in shapes]
    for parameter in made:
        parameter.grad = 1e-4 * torch.randn(parameter.shape, generator=chance)
    return made


def gpt2() -> Groups:
    groups = {f"block {i}": tensors(BLOCK + VECTORS, i) for i in range(BLOCKS)}
    return {**groups, "rest": tensors(REST, BLOCKS)}


def contestants(groups: Groups) -> dict[str, Optimizer]:
    every = [p for members in groups.values() for p in members]

    def adamw(**how: bool) -> AdamW:
        return AdamW(every, lr=2e-5, weight_decay=0.01, **how)

    def equal(method: str) -> EqualStep:
        return EqualStep(adamw(fused=True), groups, TAU, method=method)

    return {
        "AdamW, fused": adamw(fused=True),
        "AdamW, fused, again": adamw(fused=True),
        "AdamW, one tensor at a time": adamw(foreach=False),
        "EqualStep, sampled": equal("sampled"),
        "EqualStep, exact": equal("exact"),
        "EqualStep, copy": equal("copy"),
        "LAMB, pytorch-optimizer": Lamb(every, lr=2e-5, weight_decay=0.01),
        "LAMB, one tensor at a time": Lamb(every, lr=2e-5, weight_decay=0.01, foreach=False),
    }


def in_turn(optimizers: dict[str, Optimizer], rounds: int) -> dict[str, list[tuple[float, int]]]:
    """(seconds, bytes beyond what was in use) of each one's step in each round, the first too."""
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in optimizers}
    for _ in range(rounds + 1):
        for name, optimizer in optimizers.items():
            reset_peak_memory(CPU)
            before, start = peak_memory_bytes(CPU), time.perf_counter()
            optimizer.step()
            seconds = time.perf_counter() - start
            found[name].append((seconds, peak_memory_bytes(CPU) - before))
    return found


def spread(values: list[float]) -> str:
    low, middle, high = (f(values) for f in (min, statistics.median, max))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def show(found: dict[str, list[tuple[float, int]]], *, largest: int, moments: int) -> None:
    heads = ("step", "milliseconds", "time / fused AdamW", "extra memory / largest group")
    table = Table(*heads, title=f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    base = [seconds for seconds, _ in found["AdamW, fused"][1:]]
    for name, ((_, first), *runs) in found.items():
        times = [seconds for seconds, _ in runs]
        ratios = [a / b for a, b in zip(times, base, strict=True)]
        extra = max(first - moments, *(grown for _, grown in runs), 0) / largest
        milliseconds = f"{1000 * statistics.median(times):.0f}"
        table.add_row(name, milliseconds, spread(ratios), f"{extra:.2f}")
    Console(width=120).print(table)


def bench_time(groups: Groups, rounds: int) -> None:
    sizes = [sum(4 * p.numel() for p in members) for members in groups.values()]
    found = in_turn(contestants(groups), rounds)
    show(found, largest=max(sizes), moments=2 * sum(sizes))


def ratio(members: list[nn.Parameter], before: list[Tensor]) -> float:
    """||dW|| / ||W||, in float64 throughout."""
    with torch.no_grad():
        pairs = list(zip(members, before, strict=True))
        moved = sum(float((p.double() - w.double()).square().sum()) for p, w in pairs)
        weight = sum(float(w.double().square().sum()) for w in before)
    return (moved / weight) ** 0.5


def bench_accuracy(groups: Groups, rounds: int) -> None:
    """How far each method's ||dW|| / ||W|| is from what was asked, over groups and steps."""
    table = Table("method", "largest error of ||dW|| / ||W||")
    every = [p for members in groups.values() for p in members]
    for method in ("sampled", "exact", "copy"):
        optimizer = EqualStep(AdamW(every, fused=True), groups, TAU, method=method)
        worst = 0.0
        for _ in range(rounds):
            before = {n: [p.detach().clone() for p in m] for n, m in groups.items()}
            optimizer.step()
            errors = [abs(ratio(groups[name], before[name]) / TAU - 1) for name in groups]
            worst = max(worst, *errors)
        table.add_row(method, f"{worst:.1e}")
    Console(width=120).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--accuracy", action="store_true")
    arguments = parser.parse_args()
    bench = bench_accuracy if arguments.accuracy else bench_time
    bench(gpt2(), arguments.rounds)
