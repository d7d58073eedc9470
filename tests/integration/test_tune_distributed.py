"""Two processes train what one does; what goes wrong in one ends both."""

import json

import pytest
from safetensors.torch import load_file

from support.launch import together, torchrun

BASE = {"steps": 3, "learning_rate": 1e-2, "eval_examples": 6, "save_every": 2}
RUNS = {
    "causal-lm": ("llama", {}),
    "simcse": ("encoder", {}),
    "equal-step": ("llama", {"condition": "equal-step", "match_steps": 2}),
    "lora, checkpointed": ("llama", {"condition": "lora", "gradient_checkpointing": True}),
    "lora with a head": ("bert_classifier", {"condition": "lora", "labels": ["neg", "pos", "odd"]}),
    "bf16": ("llama", {"bf16": True}),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Each run's weights and log, of one launch."""
    folder = tmp_path_factory.mktemp("two")
    runs = [
        {
            "model": model,
            "out": folder / name,
            "weights": folder / f"{name}.safetensors",
            "options": BASE | options,
        }
        for name, (model, options) in RUNS.items()
    ]
    again = {"weights": folder / "again.safetensors", "drop": "checkpoint-3"}
    runs.append(runs[0] | again | {"options": runs[0]["options"] | {"resume": True}})
    said = together("tune", runs)
    assert said.codes == [0, 0], said.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_what_one_does(two, tuning, name):
    model, options = RUNS[name]
    one = tuning.tune(model, **BASE | options, accumulation=2)
    own = {n: p.detach() for n, p in one.loaded.model.named_parameters()}
    found = load_file(two / f"{name}.safetensors")
    assert found.keys() == own.keys()
    assert tuning.furthest(own, found) < (2e-2 if name == "bf16" else 1e-4)
    said = json.loads((two / f"{name}.json").read_text())
    assert said["outcome"]["processes"] == 2
    assert said["outcome"]["examples"] == one.record.outcome.examples
    kinds = [sorted(entry) for entry in said["log"]]
    assert kinds == [sorted(entry) for entry in one.log]
    for ours, theirs in zip(one.log, said["log"], strict=True):
        for key in {"loss", "eval_loss", "eval_accuracy", "grad_norm"} & ours.keys():
            assert theirs[key] == pytest.approx(ours[key], rel=2e-2 if name == "bf16" else 1e-4)
        for group, ratio in ours.get("step_ratio", {}).items():
            assert theirs["step_ratio"][group] == pytest.approx(ratio, rel=2e-2)


@pytest.mark.slow
def test_two_processes_go_on_alike(two):
    first, again = (load_file(two / f"{name}.safetensors") for name in ("causal-lm", "again"))
    assert json.loads((two / "again.json").read_text())["outcome"]["resumed_from"] == 2
    assert all(first[n].equal(again[n]) for n in first)


@pytest.mark.slow
def test_the_command_line_in_two_processes_writes_once(model_folder, text_file, tmp_path):
    options = ["--text-column", "text", "--steps", 2, "--batch-size", 4, "--max-length", 16]
    said = torchrun("tune", model_folder, text_file, *options,
                    "--out", tmp_path / "out", "--format", "json")  # fmt: skip
    record = json.loads(said.stdout)
    assert record["outcome"]["processes"] == 2
    assert record == json.loads((tmp_path / "out" / "tune.json").read_text())
    assert len((tmp_path / "out" / "log.jsonl").read_text().splitlines()) == 2
    assert said.stderr == ""


@pytest.mark.slow
def test_a_fault_in_one_process_ends_both(tmp_path):
    """One process's batch is spoilt; neither waits for the other."""
    run = {
        "model": "llama",
        "out": tmp_path / "out",
        "weights": tmp_path / "w.safetensors",
        "options": BASE | {"eval_examples": 0},
        "die": "spoilt in the second process",
    }
    said = together("tune", [run])
    assert said.codes == [1, 1]
    assert said.stderr.count("NonFiniteError: non-finite loss (nan) in step 2: 'layer group") == 2
    assert not (tmp_path / "w.safetensors").exists()
