"""What distances cost beside the passes that they cannot do without, and how much memory.

    python benchmarks/distance.py time [--model FOLDER] [--examples 256] [--rounds 5]
    python benchmarks/distance.py memory [--model FOLDER]

`time` compares everything (batches, forwards, backwards, means over tokens, sums) with bare passes
over batches that are ready: a frozen forward and a backward to the last hidden state for each
forward there is, nothing kept; and with whole passes, a forward and backward through all blocks for
each objective. They run in turn after one round that is not counted; ratios are of one round, and
their median is given with the range. The singular values at the end cost the same whatever the
number of rows; they are timed by themselves and added once for 64,000 rows. Without --model it is a
BERT-base of random weights (768 wide) with both of its heads, so five objectives, and the tokenizer
of MiniLM.

`memory` sends rows drawn at random through the sums, 1,000 and 64,000 of them, 768 wide under five
objectives; and real text through MiniLM (or --model), 1,024 and 4,096 examples: the first fills the
window of rows that are kept before they are summed. Nothing else should run on the machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table

import layerwise as lw
from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.capture.restore import frozen
from layerwise.data import TextData, read
from layerwise.distance.batches import Request, SharedBatch, cut, matched
from layerwise.distance.choose import choose
from layerwise.distance.gradients import last_states, prepared, sharing
from layerwise.distance.make import distances
from layerwise.distance.moments import ObjectiveMoments
from layerwise.distance.run import WINDOW, measure
from layerwise.models.load import LoadedModel, load, wrap_model
from layerwise.models.sources import on_disk

ROWS, WIDTH, NAMES = 64_000, 768, ("masked-lm", "span-denoise", "nsp", "simcse", "barlow-twins")
TEXT = {"where": ["source=rotten_tomatoes"]}
CPU = torch.device("cpu")


def subject(folder: str | None) -> LoadedModel:
    if folder is not None:
        return load(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(on_disk("demo-encoder"))
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=len(tokenizer))
    return wrap_model(transformers.BertForPreTraining(config), tokenizer)


def asked(loaded: LoadedModel, data: TextData) -> Request:
    reference = "simcse" if loaded.kind == "encoder" else None
    chosen = choose(loaded, data, reference=reference)
    return Request(loaded, data, chosen, batch_size=32, max_length=128, seed=0)


def bare(request: Request, ready: list[SharedBatch]) -> None:
    """A frozen forward and the gradient at the last hidden state, for each forward there is."""
    model = request.loaded.model
    with frozen(model, training=False, seed=0), last_states(request.loaded) as states:
        for stochastic in (False, True):
            members = [o for o in request.objectives if o.stochastic == stochastic]
            if members:
                with prepared(members[0], model):
                    for found in ready:
                        batches = {o.name: found.sets[o.name].batches[0] for o in members}
                        for batch, (objective, *_) in sharing(members, batches):
                            losses = objective.losses(model, batch)
                            torch.autograd.grad(losses.sum(), states())


def whole(request: Request, ready: list[SharedBatch]) -> None:
    """A forward and backward down to the embeddings for each objective, no weight's gradient."""
    model = request.loaded.model
    with frozen(model, training=False, seed=0):
        model.get_input_embeddings().weight.requires_grad_()
        for found in ready:
            for objective in request.objectives:
                with prepared(objective, model):
                    losses = objective.losses(model, found.sets[objective.name].batches[0])
                    losses.sum().backward()
        model.get_input_embeddings().weight.requires_grad_(requires_grad=False)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(loaded: LoadedModel, examples: int, rounds: int) -> None:
    request = asked(loaded, read("demo", examples=examples, **TEXT))
    chunks = cut(examples, batch_size=request.batch_size, seed=0)
    ready = [matched(request, number, chunk) for number, chunk in enumerate(chunks)]
    works = {
        "bare passes": lambda: bare(request, ready),
        "all but the end": lambda: measure(request),
        "whole passes": lambda: whole(request, ready),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            taken = seconds(work)
            if number:
                found[name].append(taken)
    tally, names = measure(request), [o.name for o in request.objectives]
    end = min(
        seconds(lambda: distances(tally.halves, names, reference=names[0], seed=0))
        for _ in range(3)
    )
    scale = ROWS / examples
    found[f"all, {ROWS:,} rows"] = [scale * taken + end for taken in found["all but the end"]]
    title = f"{type(loaded.model).__name__}, {len(names)} objectives, {examples} examples"
    table = Table("what", "seconds", "/ bare", "/ whole", title=title)
    for name, taken in found.items():
        by = scale if name.startswith("all,") else 1.0
        ratios = [
            [t / (by * b) for t, b in zip(taken, found[base], strict=True)]
            for base in ("bare passes", "whole passes")
        ]
        table.add_row(name, *(spread(values) for values in (taken, *ratios)))
    Console(width=110).print(table, f"the end, whatever the rows: {end:.2f} s")


def spread(values: list[float]) -> str:
    low, middle, high = (f"{f(values):.3g}" for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def sums(rows: int) -> tuple[float, int]:
    """Seconds, and bytes above the start, of `rows` random rows of each objective in the sums."""
    random = np.random.default_rng(0)
    reset_peak_memory(CPU)
    before, taken, halves = peak_memory_bytes(CPU), 0.0, [ObjectiveMoments(), ObjectiveMoments()]
    for number, start in enumerate(range(0, rows, WINDOW // 2)):
        size = min(WINDOW // 2, rows - start)
        drawn = {name: random.standard_normal((size, WIDTH), np.float32) for name in NAMES}
        began = time.perf_counter()
        halves[number % 2] = halves[number % 2].update(drawn, reference=NAMES[0])
        taken += time.perf_counter() - began
    taken += seconds(lambda: distances((halves[0], halves[1]), NAMES, reference=NAMES[0], seed=0))
    return taken, peak_memory_bytes(CPU) - before


def memory(folder: str) -> None:
    table = Table("what", "seconds", "peak above the start", title="memory")
    sums(1000)  # Libraries take their own memory at the first use.
    for rows in (1000, ROWS):
        taken, peak = sums(rows)
        table.add_row(f"{rows:,} random rows of {WIDTH}", f"{taken:.2f}", f"{peak / 1e6:.0f} MB")
    loaded = load(folder)
    lw.distance(loaded, "demo", reference="simcse", examples=64, **TEXT)
    for examples in (1024, 4096):
        reset_peak_memory(CPU)
        before = peak_memory_bytes(CPU)
        made = lw.distance(loaded, "demo", reference="simcse", examples=examples, **TEXT)
        peak, taken = made.settings.peak_memory_bytes - before, made.settings.seconds
        table.add_row(
            f"{examples:,} texts in {type(loaded.model).__name__}",
            f"{taken:.2f}",
            f"{peak / 1e6:.0f} MB",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["time", "memory"])
    parser.add_argument("--model")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.what == "time":
        compare(subject(arguments.model), arguments.examples, arguments.rounds)
    else:
        memory(arguments.model or on_disk("demo-encoder"))
