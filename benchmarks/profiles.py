"""What a whole profile costs beside the two forward passes that it cannot do without.

    python benchmarks/profiles.py MODEL_AFTER [--before demo] [--rounds 5]

290 probes, before and after, every block, three readouts, four measures, bootstrap and noise. The
plain contestant runs the same batches through both models' bodies and keeps nothing. Contestants
run in turn after one round that is not counted; ratios are of one round, and their median is given
with the range. Models are loaded once, outside the clock. Without MODEL_AFTER, the model before
with noise on its weights stands for the one after. Nothing else should run on the machine.
"""

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from layerwise.data.batches import by_length, input_tensors, text_rows
from layerwise.data.text import Example, TextData
from layerwise.models.load import LoadedModel, load
from layerwise.objectives.forward import accepted, body
from layerwise.profile.probe_reading import ProbeReading, as_probe_set
from layerwise.provenance import collect

BATCH = 32
READING = ProbeReading(as_probe_set(None), batch_size=BATCH)


def moved(source: str) -> LoadedModel:
    """The model with noise of 2 % on every weight."""
    loaded = load(source)
    torch.manual_seed(0)
    for parameter in loaded.model.parameters():
        parameter.data.add_(0.02 * parameter.std() * torch.randn_like(parameter))
    return loaded


def batches(loaded: LoadedModel) -> list[dict[str, torch.Tensor]]:
    """The probes in the batches that the profile makes of them."""
    examples = tuple(map(Example, READING.probes.texts))
    data = TextData("probes", READING.probes.sha256, examples, {}, len(examples))
    rows = text_rows(loaded.tokenizer, data, max_length=READING.max_length).rows
    pad = loaded.tokenizer.pad_token_id
    return [input_tensors(group, pad=pad) for group in by_length(rows, batch_size=BATCH)]


def plain(models: list[LoadedModel], inputs: list[dict[str, torch.Tensor]]) -> None:
    with torch.no_grad():
        for loaded in models:
            inner = body(loaded.model)
            for batch in inputs:
                inner(**accepted(inner, **batch, use_cache=False))


def main(models: list[LoadedModel], rounds: int) -> None:
    inputs, provenance = batches(models[0]), collect(device="cpu")
    found: dict[str, list[float]] = {"two forwards": [], "reading": [], "comparing": []}
    for number in range(rounds + 1):
        marks = [time.perf_counter()]
        plain(models, inputs)
        marks.append(time.perf_counter())
        states = [READING.states(loaded) for loaded in models]
        marks.append(time.perf_counter())
        READING.profile(states[0], states[1], provenance=provenance)
        marks.append(time.perf_counter())
        if number:
            for name, start, end in zip(found, marks, marks[1:], strict=False):
                found[name].append(end - start)
    whole = [a + b for a, b in zip(found["reading"], found["comparing"], strict=True)]
    table = Table("what", "seconds", "/ two forwards", title=f"profile of {models[0].source}")
    for name, seconds in {**found, "whole profile": whole}.items():
        ratios = [s / p for s, p in zip(seconds, found["two forwards"], strict=True)]
        table.add_row(name, spread(seconds), spread(ratios))
    Console(width=100).print(table)


def spread(values: list[float]) -> str:
    low, middle, high = (f"{f(values):.2f}" for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("after", nargs="?")
    parser.add_argument("--before", default="demo")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    after = load(arguments.after) if arguments.after else moved(arguments.before)
    main([load(arguments.before), after], arguments.rounds)
