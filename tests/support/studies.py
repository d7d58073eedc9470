"""Studies of runs that take a blink, on tiny models; and of runs that only a ledger knows."""

import json

from layerwise.study.expand import study_from
from layerwise.study.ledger import create
from support import text

PROBES = [f"w{i} w{(3 * i) % 50} w{(7 * i + 1) % 50} w{(i * i) % 50}" for i in range(12)]


def files(folder, *names):
    """A folder with the models called `names`, texts, plain and labelled, pairs, and probes."""
    for name in names:
        text.save(folder / name, name)
    texts = [" ".join(f"w{(7 * i + 3 * j) % 50}" for j in range(5 + i % 8)) for i in range(24)]
    (folder / "texts.txt").write_text("\n".join(texts))
    (folder / "probes.txt").write_text("\n".join(PROBES))
    rows = [{"text": f"w{i} w{i + 1} w{40 + i % 2}", "label": "ab"[i % 2]} for i in range(24)]
    (folder / "labelled.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = [{"a": f"w{i} w{i + 1} w40", "b": f"w{i} w{i + 1} w41"} for i in range(14)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    return folder


def plain(folder, **keys):
    """A study of one model, `keys` put in; what is a mapping goes beside what is there."""
    study = {
        "schema": "layerwise/study/1",
        "name": "tiny",
        "defaults": {
            "data": str(folder / "texts.txt"),
            "steps": 3,
            "batch_size": 4,
            "max_length": 16,
            "learning_rate": 1e-3,
            "device": "cpu",
        },
        "profile": {"probes": str(folder / "probes.txt"), "bootstrap": 20, "batch_size": 4},
        "models": {"llama": {"source": str(folder / "llama")}},
        "objectives": ["causal-lm"],
        "conditions": ["standard"],
    }
    for key, value in keys.items():
        are_mappings = isinstance(value, dict) and isinstance(study.get(key), dict)
        study[key] = {**study[key], **value} if are_mappings and key != "models" else value
    return study


def matrix(**keys):
    """A study that nothing but a ledger is made of, `keys` in the place of what is there."""
    return {
        "schema": "layerwise/study/1",
        "name": "matrix",
        "defaults": {"data": "demo"},
        "models": {"a": "x"},
        "objectives": ["causal-lm"],
        "conditions": ["standard"],
        **keys,
    }


MADE = {"pretrain": {"config": {"a": 1}, "tokenizer": "t", "data": "d"}}
"""A model of such a study that is pretrained."""


def neox(folder, **options):
    """How a small GPT-NeoX model is pretrained; `options` are of its configuration."""
    config = {
        "model_type": "gpt_neox",
        "architectures": ["GPTNeoXForCausalLM"],
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "vocab_size": len(text.VOCABULARY),
        "max_position_embeddings": 64,
        **options,
    }
    words = folder / "words"
    text.tokenizer(frame="causal").save_pretrained(words)
    return {
        "config": config,
        "tokenizer": str(words),
        "data": str(folder / "texts.txt"),
        "steps": 4,
        "batch_size": 4,
        "max_length": 16,
        "device": "cpu",
    }


def opened(root, study):
    """The ledger of a study, with the folder and spec of each run; and the runs."""
    made = study_from(study)
    ledger = create(root, made)
    for cell in made.cells:
        ledger.prepare(cell)
    return ledger, made.cells


def end(ledger, cell, outcome, *, seconds=1.0):
    """Have a run end: with numbers, or with a failure."""
    ledger.prepare(cell)
    lease = ledger.begin(cell.id)
    if isinstance(outcome, dict):
        ledger.finish(cell.id, outcome, lease=lease, seconds=seconds)
    else:
        ledger.fail(cell.id, outcome, lease=lease)
    lease.release()


def result(ledger, cell):
    """The numbers of a run, as bytes."""
    return json.dumps(ledger.result(cell.id)["result"], sort_keys=True).encode()
