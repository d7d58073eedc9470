"""Killed at any point and resumed, a run ends with the weights of one that was not, to the bit."""

import json
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from layerwise.errors import NonFiniteError, SchemaError
from layerwise.tuning.lora import placed_on
from support.launch import forked

DEATHS = {
    "before the first checkpoint": None,
    "in the middle of an accumulation": 2,
    "after the match": 2,  # It has taken three steps, six forwards.
    "after a step": 4,
    "writing a checkpoint": 2,
    "sealing a checkpoint": 2,
    "before the last one is dropped": 4,
    "at the end": 6,
}
OPTIONS = {"steps": 6, "accumulation": 2, "save_every": 2, "learning_rate": 1e-3}
CONDITIONS = {
    "standard": {"condition": "standard"},
    "equal-step": {"condition": "equal-step", "match_steps": 3},
    "lora": {"condition": "lora"},
}
# Every point for one condition, and for the others those where their own state matters.
CASES = [
    *(("bert", "standard", death) for death in DEATHS if death != "after the match"),
    *(
        ("llama", "equal-step", death)
        for death in ("before the first checkpoint", "after the match")
    ),
    *(("llama", "lora", death) for death in list(DEATHS)[:2]),
]


def started(model, out, weights, *, die=None, **options):
    """The exit code of a run in a process of its own."""
    run = {"model": model, "out": out, "weights": weights, "options": options, "die": die}
    return forked("tune", [run]).codes[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of runs that nothing disturbed."""
    folder, made = tmp_path_factory.mktemp("whole"), {}

    def weights(model, condition):
        key = f"{model}-{condition}"
        if key not in made:
            file = folder / f"{key}.safetensors"
            assert started(model, folder / key, file, **OPTIONS, **CONDITIONS[condition]) == 0
            made[key] = load_file(file), json.loads(file.with_suffix(".json").read_text())
        return made[key]

    return weights


@pytest.mark.parametrize(("model", "condition", "death"), CASES)
def test_killed_and_resumed_ends_alike(whole, tmp_path, model, condition, death):
    out, file = tmp_path / "out", tmp_path / "weights.safetensors"
    options = OPTIONS | CONDITIONS[condition]
    assert started(model, out, file, **options, die=death) == -signal.SIGKILL
    assert not file.exists()
    assert started(model, out, file, **options, resume=True) == 0
    expected, before = whole(model, condition)
    found, said = load_file(file), json.loads(file.with_suffix(".json").read_text())
    assert found.keys() == expected.keys()
    assert all(found[n].equal(expected[n]) for n in expected)
    assert said["tau"] == before["tau"]
    assert said["outcome"]["resumed_from"] == DEATHS[death]
    lines = [[{k: e[k] for k in ("step", "loss")} for e in x["log"]] for x in (said, before)]
    assert lines[0] == lines[1]
    kept = [p.name for p in (out / "checkpoints").iterdir()]
    assert "checkpoint-6" in kept


class Enough(Exception):  # noqa: N818  # it is no error
    """A run has gone as far as a test needs."""


@pytest.fixture
def unfinished(tuning, tmp_path):
    """A run that ended after its second step, with a checkpoint, and how to go on with it."""
    return cut_short(tuning, {"steps": 4, "save_every": 2, "folder": tmp_path})


def cut_short(tuning, options):
    """End a run after its second step; how to go on with it."""

    def stop(entry):
        if entry["step"] == 3:
            raise Enough

    with pytest.raises(Enough):
        tuning.tune(**{"model": "llama"} | options, on_step=stop)
    again = options | {"resume": True}
    return lambda model="llama", **other: tuning.tune(**again | {"model": model} | other)


def test_the_same_run_goes_on(unfinished, tuning):
    tuned = unfinished()
    assert tuned.record.outcome.resumed_from == 2
    assert tuning.same(tuning.weights(tuned), tuning.weights(tuning.tune("llama", steps=4)))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 1}, "seed=0, now 1"),
        ({"learning_rate": 1e-4}, "learning_rate=2e-05, now 0.0001"),
        ({"batch_size": 2}, "batch_size=4, now 2"),
        ({"steps": 5}, "steps=4, now 5"),
        ({"condition": "uniform"}, "condition='standard', now 'uniform'"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing=False, now True"),
        ({"bf16": True}, "bf16=False, now True"),
        ({"model": "gpt2"}, "model='llama', now 'gpt2'"),
    ],
)
def test_another_run_is_refused(unfinished, other, named):
    with pytest.raises(SchemaError, match="checkpoint of another run") as caught:
        unfinished(**other)
    assert named in caught.value.value
    assert ("--steps 4, and then" in caught.value.hint) == ("steps" in other)


def test_other_precision_and_another_order_of_classes_are_refused(tuning, tmp_path):
    """The files, the examples and all shapes are the same."""

    def subject(dtype=torch.float32):
        loaded = replace(tuning.loaded("bert_classifier"), files={"model.safetensors": "1"})
        loaded.model.to(dtype)
        return loaded

    texts = replace(tuning.labelled(tuning.data()), classes=("neg", "pos", "odd"))
    options = {"steps": 4, "save_every": 2, "folder": tmp_path, "data": texts}
    go_on = cut_short(tuning, options | {"model": subject()})
    with pytest.raises(SchemaError, match="dtype='float32', now 'bfloat16'"):
        go_on(subject(torch.bfloat16))
    with pytest.raises(SchemaError, match=r"classes=\['neg', 'pos', 'odd'\], now \['pos'"):
        go_on(subject(), data=replace(texts, classes=("pos", "neg", "odd")))
    assert go_on(subject()).record.outcome.resumed_from == 2


def test_other_ranks_are_refused(tuning, tmp_path):
    placed = placed_on(tuning.loaded("llama"))
    options = {"steps": 4, "save_every": 2, "folder": tmp_path, "condition": "lora"}
    go_on = cut_short(tuning, options | {"placement": placed})
    lower, upper = (name for name in placed.modules if name.endswith("q_proj"))
    with pytest.raises(SchemaError, match="checkpoint of another run") as caught:
        go_on(placement=replace(placed, ranks={lower: 4, upper: 12}))  # As large as before.
    assert "ranks=" in caught.value.value
    assert go_on().record.outcome.resumed_from == 2


def test_other_data_is_refused(unfinished, tuning):
    with pytest.raises(SchemaError, match="data_sha256="):
        unfinished(data=tuning.data(23))


def test_a_model_with_other_weights_is_refused(unfinished, tuning):
    loaded = tuning.loaded("llama")
    next(loaded.model.parameters()).data[0, 0] += 1e-3
    with pytest.raises(SchemaError, match="model_files="):
        unfinished(loaded)


def test_how_often_is_logged_and_saved_may_change(unfinished, tuning):
    tuned = unfinished(log_every=2, save_every=1, eval_every=1)
    assert tuning.same(tuning.weights(tuned), tuning.weights(tuning.tune("llama", steps=4)))


def test_a_run_without_its_log_is_refused(unfinished, tmp_path):
    (tmp_path / "log.jsonl").unlink()
    with pytest.raises(SchemaError, match=r"unfinished run without its log: .*without --resume"):
        unfinished()


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "trainer_state.json"])
@pytest.mark.parametrize("fault", ["missing", "truncated", "flipped"])
def test_a_damaged_checkpoint_is_named(unfinished, tmp_path, name, fault):
    file = tmp_path / "checkpoints" / "checkpoint-2" / name
    content = bytearray(file.read_bytes())
    if fault == "missing":
        file.unlink()
    elif fault == "truncated":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    with pytest.raises(SchemaError, match=rf"checkpoint with.*{name}.*without --resume") as caught:
        unfinished()
    assert caught.value.exit_code == 2


def test_the_last_good_checkpoint_can_be_loaded_after_a_fault(tuning, tmp_path):
    """The weights of step 2 stay when step 3's loss is not finite, and are those of step 2."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = tuning.loaded("llama")
    calls = []

    def spoil(_module, _args, output):
        calls.append(1)
        return output * float("nan") if len(calls) == 3 else output

    loaded.model.lm_head.register_forward_hook(spoil)
    with pytest.raises(NonFiniteError, match=r"loss \(nan\) in step 3: 'layer group rest'"):
        tuning.tune(loaded, folder=tmp_path, steps=4, save_every=1)
    assert not (tmp_path / "tune.json").exists()
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoints" / "checkpoint-2")
    expected = tuning.weights(tuning.tune("llama", steps=2))
    assert all(torch.equal(v, expected[n]) for n, v in kept.state_dict().items())


@pytest.mark.parametrize("name", ["qwen3_moe", "t5", "gemma3", "bert", "mamba"])
def test_a_resumed_model_has_all_its_weights(tiny, tuning, tmp_path, name):
    """Also where transformers keeps them on disk otherwise than in memory, as experts' are."""

    def model():
        frame = {"bert": "bert", "t5": "t5"}.get(name, "causal")
        words = tuning.text.tokenizer(frame=frame)
        return replace(tiny.build(name), tokenizer=words)

    options = {"steps": 4, "save_every": 2, "learning_rate": 1e-2}
    whole = tuning.tune(model(), folder=tmp_path, **options)
    shutil.rmtree(tmp_path / "checkpoints" / "checkpoint-4")
    again = tuning.tune(model(), folder=tmp_path, resume=True, **options)
    assert again.record.outcome.resumed_from == 2
    assert tuning.same(tuning.weights(whole), tuning.weights(again))
