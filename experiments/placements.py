"""What adapters on sets of blocks gain, run by run: the data behind docs/evidence.md.

    python experiments/placements.py estimate [--pairs NAME,NAME]
    python experiments/placements.py run [--pairs NAME,NAME] [--seeds 0,1,2] [--part 1/2]
    python experiments/placements.py tables [--into docs/evidence.md]

`run` trains adapters on 32 random sets of blocks of each pair of model and text, under each seed,
and appends one JSON line a run to OUT/placements.jsonl. It can be killed at any moment and started
again: what is in the file is not run again. Two processes share the work with --part 1/2 and
--part 2/2 (one thread each: OMP_NUM_THREADS=1). Before a pair's first run, its Layer Card is made
(OUT/cards/NAME), and the learning rate is taken from a short ladder on a few unlike sets. How
long it will take is told before it starts; `estimate` tells it and stops.

`tables` computes everything from those lines and cards alone: OUT/calibration.json, and the tables,
printed or put between the two comments that mark their place in a document.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from filelock import FileLock

import layerwise as lw
from documents import interval, markdown, show
from laboratory.calibrate import calibrate, set_table
from laboratory.calibration import Calibration, PairCalibration
from laboratory.predictors import PREDICTORS
from laboratory.run_log import SetRun, append_run, by_pair, read_runs
from laboratory.sets import contiguous_sets, random_sets, single_sets
from layerwise.card.record import LayerCard
from layerwise.data import read
from layerwise.errors import NonFiniteError
from layerwise.measure.trial import Bench, bench, trial
from layerwise.models.load import load
from layerwise.objectives import labels_for, resolve
from layerwise.placement import POLICIES
from layerwise.placement.place import place
from layerwise.placement.record import PlacedBlock, Placement
from layerwise.signals.ranks import spearman
from layerwise.tuning.material import held_out
from layerwise.tuning.record import TuneSettings

LADDER = (1e-3, 2e-3, 4e-3)
ATTENTION = {
    "smollm2": ("q_proj", "k_proj", "v_proj", "o_proj"),
    # The attention's output is called as the other dense layers are.
    "minilm": ("query", "key", "value", "attention.output.dense"),
}
MODELS = {"smollm2": "demo", "minilm": "demo-encoder"}
TEXTS = {"rotten_tomatoes": "demo", "imdb": "demo-imdb"}
BEGIN, END = "<!-- placements: begin -->", "<!-- placements: end -->"


@dataclass(frozen=True)
class Pair:
    """A model and a text, and how sets of blocks are trained on it.

    Attributes:
        name: Of the pair.
        model: Which model.
        text: Which of the demo's texts.
        objective: The loss.
        sizes: How many blocks a random set has; some of each.
        steps: Optimizer steps of a run.
        batch_size: Examples a step.
        max_length: Tokens of an example.
        train: Examples to train on.
        validation: Examples to measure on.
        rank: Of the adapters.
    """

    name: str
    model: str
    text: str
    objective: str
    sizes: tuple[int, ...]
    steps: int = 40
    batch_size: int = 8
    max_length: int = 48
    train: int = 640
    validation: int = 128
    rank: int = 8


def encoder(text: str) -> Pair:
    return Pair(
        f"minilm-{text}",
        "minilm",
        text,
        "classification",
        sizes=(2, 3),
        batch_size=16,
        train=1280,
        validation=512,
    )


PAIRS = {
    pair.name: pair
    for pair in (
        Pair("smollm2-rotten_tomatoes", "smollm2", "rotten_tomatoes", "causal-lm", sizes=(5,)),
        Pair("smollm2-imdb", "smollm2", "imdb", "causal-lm", sizes=(5,)),
        encoder("rotten_tomatoes"),
        encoder("imdb"),
    )
}


@dataclass(frozen=True)
class Ready:
    """A pair with everything in memory that its runs share."""

    pair: Pair
    card: LayerCard
    bench: Bench


def prepared(pair: Pair, out: Path) -> Ready:
    """The model, text and card of `pair`; the card is made where there is none."""
    count = pair.train + pair.validation
    column = "label" if pair.objective == "classification" else None
    data = read(TEXTS[pair.text], label_column=column, examples=count, seed=0)
    train, validation = held_out(data, examples=pair.validation, seed=0)
    labels = labels_for(pair.objective, data)
    loaded = load(MODELS[pair.model], device="cpu", dtype="float32", labels=labels, seed=0)
    objective = resolve(pair.objective, loaded=loaded, data=data)
    settings = TuneSettings(
        steps=pair.steps, batch_size=pair.batch_size, max_length=pair.max_length
    )
    folder = out / "cards" / pair.name
    with alone(out / f".{pair.name}.lock"):
        if not (folder / "card.json").exists():
            examples = replace(train, examples=train.examples[:64])
            made = lw.card(
                loaded,
                examples,
                objective=pair.objective,
                rank=pair.rank,
                targets=ATTENTION[pair.model],
                max_length=pair.max_length,
                batch_size=pair.batch_size,
            )
            replace(made, arrays=kept_arrays(made)).save(folder)
    card = LayerCard.load(folder)
    return Ready(pair, card, bench(loaded, train, validation, objective, settings))


def kept_arrays(card: LayerCard) -> dict[str, np.ndarray]:
    """What predictors look at, at half the size: the files are kept under version control."""
    return {name: card.arrays[name].astype(np.float32) for name in ("gram", "adam_gram")}


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Inside, this process is the only one; others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def placed(ready: Ready, rows: Sequence[int]) -> Placement:
    layers = [ready.card.layers[row] for row in rows]
    blocks = [PlacedBlock(layer.stack, layer.index) for layer in layers]
    return place(ready.card, rows=blocks, rank=ready.pair.rank)


def trained(ready: Ready, kind: str, rows: Sequence[int], *, seed: int, rate: float) -> SetRun:
    made = trial(ready.bench, placed(ready, rows), seed=seed, learning_rate=rate)
    return SetRun(
        pair=ready.pair.name,
        kind=kind,
        rows=tuple(rows),
        seed=seed,
        rank=ready.pair.rank,
        batch_size=ready.pair.batch_size,
        max_length=ready.pair.max_length,
        trial=made,
        device=ready.card.provenance.device or "cpu",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def chosen_rate(ready: Ready, lines: Path) -> float:
    """The rate of the ladder with the lowest mean validation loss over a few sets, seed 0.

    One set is not enough: a rate at which it does best may be one at which others diverge, and then
    runs tell which sets bear the rate, not which gain.
    """
    found = dict[float, float]()
    with alone(lines.with_name(f".{ready.pair.name}.lock")):
        for rate in LADDER:
            losses = [tried(ready, rows, rate, lines) for rows in ladder_sets(ready)]
            found[rate] = statistics.fmean(losses)
            say(f"  rate {rate:g}: validation loss {found[rate]:.4f}, at worst {max(losses):.4f}")
    return min(found, key=lambda rate: found[rate])


def ladder_sets(ready: Ready) -> list[tuple[int, ...]]:
    """Evenly spread, lowest, highest and random blocks: what the learning rate is chosen on."""
    names, rows = ("uniform", "first", "last", "random"), range(len(ready.card.layers))
    size = ready.pair.sizes[0]
    return list(dict.fromkeys(POLICIES[name](ready.card, size, rows=rows) for name in names))


def tried(ready: Ready, rows: tuple[int, ...], rate: float, lines: Path) -> float:
    """The validation loss of `rows` at `rate`, run unless it was; infinite where it diverges."""
    known = {run.key: run for run in read_runs(lines)}
    run = known.get((ready.pair.name, "ladder", rows, 0, rate))
    if run is None:
        try:
            run = trained(ready, "ladder", rows, seed=0, rate=rate)
        except NonFiniteError as error:
            say(f"  rate {rate:g}, {rows}: {error}")
            return math.inf
        append_run(lines, run)
    return run.trial.loss_after


def wanted(ready: Ready, asked: argparse.Namespace) -> list[tuple[str, tuple[int, ...]]]:
    """The sets to train, by kind; those that the policies are compared with come first."""
    rows, sizes = range(len(ready.card.layers)), ready.pair.sizes
    share = math.ceil(asked.sets / len(sizes))
    kinds = {
        "random": [s for k in sizes for s in random_sets(rows, size=k, count=share)],
        "single": list(single_sets(rows)),
        "contiguous": [s for k in sizes for s in contiguous_sets(rows, size=k)],
    }
    return [(kind, some) for kind in asked.kinds for some in kinds[kind]]


def seconds_of_a_run(ready: Ready) -> float:
    """From a run of three steps: what it takes beside its steps, and its steps."""
    short = replace(ready.bench, settings=replace(ready.bench.settings, steps=3))
    rows = (0, len(ready.card.layers) - 1)
    start = time.perf_counter()
    made = trial(short, placed(ready, rows), seed=0, learning_rate=1e-3)
    whole = time.perf_counter() - start
    return whole + (ready.pair.steps - 3) * made.seconds_per_step


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(asked: argparse.Namespace) -> None:
    """Every seed over all pairs before the next: a study cut short has every pair."""
    ready = {name: prepared(PAIRS[name], asked.out) for name in asked.pairs}
    estimate(asked, ready)
    if asked.command == "estimate":
        return
    part, parts = asked.part
    for seed in asked.seeds:
        for name, one in ready.items():
            rate = asked.learning_rate or chosen_rate(one, asked.lines)
            mine = wanted(one, asked)[part - 1 :: parts]
            for number, (kind, rows) in enumerate(mine, 1):
                key = (name, kind, rows, seed, rate)
                if key in {found.key for found in read_runs(asked.lines)}:
                    continue
                made = trained(one, kind, rows, seed=seed, rate=rate)
                append_run(asked.lines, made)
                gained = f"{made.trial.improvement:+.4f}"
                say(f"{name} seed {seed} {kind} {number}/{len(mine)} {rows}: {gained}")


def estimate(asked: argparse.Namespace, ready: dict[str, Ready]) -> None:
    total = 0.0
    done = {found.key[:4] for found in read_runs(asked.lines)}
    part, parts = asked.part
    for name, one in ready.items():
        mine = [
            (name, k, r, s) for s in asked.seeds for k, r in wanted(one, asked)[part - 1 :: parts]
        ]
        left, each = len([key for key in mine if key not in done]), seconds_of_a_run(one)
        total += left * each
        say(f"{name}: {left} of {len(mine)} runs left, about {each:.0f} s each")
    say(f"about {total / 3600:.1f} hours, and twelve runs a pair for its ladder of rates")


# -- tables ----------------------------------------------------------------------------------------


def tables(asked: argparse.Namespace) -> None:
    pairs, lines = [], read_runs(asked.lines)
    for name, runs in by_pair(lines).items():
        if name in asked.pairs and any(run.kind == "random" for run in runs):
            pairs.append(set_table(LayerCard.load(asked.out / "cards" / name), runs))
    found = calibrate(pairs)
    (asked.out / "calibration.json").write_bytes(found.to_json())
    sets = [run for run in lines if run.pair in asked.pairs and run.kind != "ladder"]
    parts = noise_table(found), kind_table(sets), predictor_table(found), cost_table(found)
    text = "\n\n".join([*parts, choice(found)])
    show(text, asked.into, begin=BEGIN, end=END)


def noise_table(found: Calibration) -> str:
    head = ["pair", "sets", "blocks in a set", "seeds", "steps", "rate", "between seeds", "ceiling"]
    return markdown(head, [noise_row(pair) for pair in found.pairs])


def noise_row(pair: PairCalibration) -> list[str]:
    sizes, noise = ", ".join(map(str, pair.sizes)), pair.noise
    told = [pair.name, str(pair.sets), sizes, str(len(pair.seeds)), str(pair.steps)]
    told.append(f"{pair.learning_rate:g}")
    if noise is None:
        return [*told, "", ""]
    ceiling = interval(noise.ceiling, noise.low, noise.high)
    return [*told, f"{noise.between_seeds:.2f}", ceiling]


def kind_table(runs: Sequence[SetRun]) -> str:
    """What sets of each kind and size gained, and how that goes with their lowest block."""
    found: dict[tuple[str, str, int], list[SetRun]] = {}
    for one in runs:
        found.setdefault((one.pair, one.kind, len(one.rows)), []).append(one)
    head = ["pair", "kind", "blocks", "sets", "fall of the loss", "with the lowest block's height"]
    return markdown(head, [kind_row(*key, some) for key, some in sorted(found.items())])


def kind_row(pair: str, kind: str, blocks: int, runs: Sequence[SetRun]) -> list[str]:
    gained: dict[tuple[int, ...], list[float]] = {}
    for one in runs:
        gained.setdefault(one.rows, []).append(one.trial.improvement)
    means = np.array([np.mean(some) for some in gained.values()])
    heights = np.array([min(rows) for rows in gained], dtype=np.float64)
    shown = f"{means.mean():.4f} ({means.min():.4f} to {means.max():.4f})"
    return [pair, kind, str(blocks), str(len(means)), shown, f"{spearman(heights, means):.2f}"]


def predictor_table(found: Calibration) -> str:
    """Correlation on each pair at that pair's best damping, and over pairs, left out."""
    scores = {(p.name, s.name): s for p in found.pairs for s in p.scores}
    head = ["predictor", *(pair.name for pair in found.pairs), "mean", "left out", "damping"]
    rows = []
    for family in found.families:
        own = [scores[pair.name, family.name] for pair in found.pairs]
        rows.append([
            family.name,
            *(interval(s.spearman, s.low, s.high) for s in own),
            f"{family.spearman:.2f}",
            "" if family.left_out is None else f"{family.left_out:.2f}",
            "" if family.damping is None else f"{family.damping:g}",
        ])  # fmt: skip
    return markdown(head, rows)


def cost_table(found: Calibration) -> str:
    """Prediction over cost with improvement / with improvement over cost."""
    scores = {(p.name, s.name): s for p in found.pairs for s in p.scores}
    rows = []
    for name in (family.name for family in found.families if PREDICTORS[family.name].is_gain):
        own = [scores[pair.name, name] for pair in found.pairs]
        shown = [
            "" if s.over_cost is None else f"{s.over_cost:.2f} / {s.per_second:.2f}" for s in own
        ]
        rows.append([name, *shown])
    return markdown(["predictor over cost", *(pair.name for pair in found.pairs)], rows)


def choice(found: Calibration) -> str:
    lines = [
        f"- {x.pair}: {x.signal.name} {interval(x.signal.spearman, x.signal.low, x.signal.high)}, "
        f"{x.geometry.name} {interval(x.geometry.spearman, x.geometry.low, x.geometry.high)}"
        for x in found.left_out
    ]
    damping = "" if found.preferred_damping is None else f", damping {found.preferred_damping:g}"
    lines.append(f"- preferred: {found.preferred}{damping}")
    if found.margin is not None and found.margin_low is not None and found.margin_high is not None:
        told = "beats" if found.beats_geometry else "does not beat"
        shown = interval(found.margin, found.margin_low, found.margin_high)
        lines.append(f"- the best signal {told} depth alone on left-out pairs: {shown}")
    return "\n".join(lines)


# -- the command -----------------------------------------------------------------------------------


def share(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    found = int(part), int(parts or 1)
    if not 1 <= found[0] <= found[1]:
        msg = f"{text}: expected PART/PARTS, such as 1/2"
        raise argparse.ArgumentTypeError(msg)
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("command", choices=["estimate", "run", "tables"])
    made.add_argument("--pairs", type=lambda t: t.split(","), default=list(PAIRS))
    made.add_argument("--seeds", type=lambda t: [int(x) for x in t.split(",")], default=[0, 1, 2])
    made.add_argument("--kinds", type=lambda t: t.split(","), default=["random"])
    made.add_argument("--sets", type=int, default=32, help="random sets a pair")
    made.add_argument("--steps", type=int, help="optimizer steps of a run, for a try")
    made.add_argument("--learning-rate", type=float, help="in place of the ladder's")
    made.add_argument("--part", type=share, default=(1, 1))
    made.add_argument("--out", type=Path, default=Path("docs/evidence"))
    made.add_argument("--into", type=Path, help="the document that takes the tables")
    return made


def main() -> None:
    asked = parser().parse_args()
    asked.lines = asked.out / "placements.jsonl"
    if asked.steps:
        PAIRS.update({name: replace(pair, steps=asked.steps) for name, pair in PAIRS.items()})
    tables(asked) if asked.command == "tables" else run(asked)


if __name__ == "__main__":
    main()
