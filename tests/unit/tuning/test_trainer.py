"""What comes with Trainer is right here too: accumulation, precision, checkpointing, evaluation."""

import json
from dataclasses import replace

import pytest
import torch

from layerwise.errors import SchemaError
from layerwise.models.load import load
from layerwise.objectives import OBJECTIVES, resolve
from layerwise.tuning import run
from layerwise.tuning.conditions import CONDITIONS
from layerwise.tuning.material import held_out
from layerwise.tuning.results import save

RATE = {"learning_rate": 1e-2}


@pytest.mark.parametrize("condition", ["standard", "equal-step"])
def test_accumulated_batches_are_one_large_one(tuning, condition):
    """No dropout and no masks drawn by the forward: only the order of sums differs."""
    tau = {"tau": 1e-2} if condition == "equal-step" else {}
    one = tuning.tune("llama", condition=condition, batch_size=8, **RATE, **tau)
    four = tuning.tune("llama", condition=condition, batch_size=2, accumulation=4, **RATE, **tau)
    assert tuning.furthest(tuning.weights(one), tuning.weights(four)) < 1e-4
    assert one.record.outcome.loss == pytest.approx(four.record.outcome.loss, rel=1e-5)
    assert one.record.outcome.examples == four.record.outcome.examples == 24
    assert one.record.outcome.epochs == 1.0
    if condition == "standard":  # The comparison could see a forward that was lost.
        part = tuning.tune("llama", batch_size=2, accumulation=3, **RATE)
        assert tuning.furthest(tuning.weights(one), tuning.weights(part)) > 1e-3


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "encoder", "t5"])
def test_gradient_checkpointing_changes_no_weight(tuning, name):
    """Dropout, where there is some, is drawn again as it was."""
    kept, again = (
        tuning.weights(tuning.tune(name, gradient_checkpointing=on, **RATE)) for on in (False, True)
    )
    assert tuning.furthest(kept, again) < 1e-4


@pytest.mark.parametrize("name", ["llama", "encoder"])
@pytest.mark.parametrize("condition", ["standard", "equal-step", "lora"])
def test_bfloat16_is_near_float32(tuning, name, condition):
    wide = tuning.tune(name, condition=condition, eval_examples=4)
    narrow = tuning.tune(name, condition=condition, eval_examples=4, bf16=True)
    first, second = wide.record.outcome, narrow.record.outcome
    assert second.first_loss == pytest.approx(first.first_loss, rel=0.02)
    assert second.eval_loss == pytest.approx(first.eval_loss, rel=0.02)
    assert second.first_eval_loss != first.first_eval_loss
    assert {p.dtype for p in narrow.loaded.model.parameters()} == {torch.float32}


def test_one_run_s_precision_is_not_the_next_one_s(tuning):
    before = tuning.weights(tuning.tune("llama"))
    tuning.tune("llama", bf16=True)
    assert tuning.same(tuning.weights(tuning.tune("llama")), before)


def test_weights_in_half_precision_say_what_was_stored(tuning):
    loaded = tuning.loaded("llama")
    loaded.model.to(torch.bfloat16)
    tuned = tuning.tune(loaded, condition="equal-step", tau=1e-5)
    for entry in tuned.log:
        assert list(entry["step_ratio"].values()) == pytest.approx([1e-5] * 3, rel=1e-3)
        assert entry["stored_ratio"].keys() == entry["step_ratio"].keys()
    assert any(s < 0.9e-5 for e in tuned.log for s in e["stored_ratio"].values())


# --- Evaluation -------------------------------------------------------------------------------


def by_itself(objective, loaded, data):
    """The batches of each text by itself."""
    return objective.batches_for(loaded, data, batch_size=1, max_length=16, seed=0).batches


def slow_loss(loaded, data):
    """The mean loss of each text by itself."""
    objective, model = resolve("auto", loaded=loaded, data=data), loaded.model.eval()
    with torch.no_grad():
        losses = [objective.losses(model, b).item() for b in by_itself(objective, loaded, data)]
    return sum(losses) / len(losses)


def test_evaluation_is_the_mean_loss_of_what_is_held_out(tuning):
    loaded = tuning.loaded("llama")
    _, held = held_out(tuning.data(), examples=7, seed=0)
    before = slow_loss(loaded, held)
    tuned = tuning.tune(loaded, eval_examples=7, eval_every=2, steps=5, **RATE)
    lines = [(e["step"], e["eval_loss"]) for e in tuned.log if "eval_loss" in e]
    assert [step for step, _ in lines] == [0, 2, 4, 5]
    assert tuned.record.outcome.first_eval_loss == lines[0][1] == pytest.approx(before, rel=1e-5)
    after = slow_loss(tuned.loaded, held)
    assert tuned.record.outcome.eval_loss == lines[-1][1] == pytest.approx(after, rel=1e-5)
    assert tuned.record.data.examples == 24


@pytest.mark.parametrize("condition", ["standard", "lora"])
@pytest.mark.parametrize("name", ["bert_classifier", "llama_classifier"])
def test_classes_of_what_is_held_out_are_counted(tuning, name, condition):
    """The share of texts whose likeliest class is their own, each text by itself."""
    data = tuning.labelled(tuning.data())
    tuned = tuning.tune(name, data=data, condition=condition, eval_examples=7, **RATE)
    _, held = held_out(data, examples=7, seed=0)
    with torch.no_grad():
        hits = [
            tuned.loaded.model(**b.inputs).logits.argmax() == b.classes
            for b in by_itself(OBJECTIVES["classification"], tuned.loaded, held)
        ]
    outcome = tuned.record.outcome
    assert outcome.quality["accuracy"] == pytest.approx(sum(map(bool, hits)) / 7)
    assert set(outcome.first_quality) == {"accuracy", "macro_f1"}


@pytest.mark.slow
def test_next_sentences_are_classes_too_and_tokens_are_none(tuning):
    pairs = tuning.tune(
        "pretraining", data=sentences(tuning), objective="nsp", eval_examples=7, max_length=40
    )
    assert set(pairs.record.outcome.quality) == {"accuracy", "macro_f1"}
    assert tuning.tune("llama", eval_examples=7).record.outcome.quality == {}


@pytest.mark.parametrize("every", [0, 1])
def test_evaluating_changes_no_weight(tuning, every):
    options = {"eval_examples": 6, "steps": 4}
    plain = tuning.tune("encoder", eval_every=2, **options)
    other = tuning.tune("encoder", eval_every=every, **options)
    assert tuning.same(tuning.weights(plain), tuning.weights(other))


def test_a_loss_with_dropout_is_evaluated_the_same_each_time(tuning):
    """With a rate that moves nothing, SimCSE on the held-out texts stays what it is."""
    tuned = tuning.tune("encoder", eval_examples=6, eval_every=1, learning_rate=1e-30)
    losses = {e["eval_loss"] for e in tuned.log if "eval_loss" in e}
    assert len(losses) == 1


def test_without_held_out_texts_nothing_is_evaluated(tuning):
    outcome = tuning.tune("llama", eval_every=1).record.outcome
    assert (outcome.eval_loss, outcome.first_eval_loss) == (None, None)


# --- The log ----------------------------------------------------------------------------------


def test_each_step_is_heard_and_written(tuning, tmp_path):
    heard = []
    tuned = tuning.tune("llama", folder=tmp_path, on_step=heard.append, steps=5, eval_examples=4)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == heard == [dict(entry) for entry in tuned.log]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5]
    groups = ["model.layers.0", "model.layers.1", "rest"]
    for line in steps:
        assert set(line) == {
            "step", "loss", "learning_rate", "grad_norm", "seconds", "grad_norms", "step_ratio",
        }  # fmt: skip
        assert list(line["grad_norms"]) == list(line["step_ratio"]) == groups
        whole = sum(norm**2 for norm in line["grad_norms"].values()) ** 0.5
        assert line["grad_norm"] == pytest.approx(whole, rel=1e-5)
        assert line["learning_rate"] == 2e-5


def test_lines_may_be_further_apart(tuning):
    tuned = tuning.tune("llama", steps=8, log_every=3)
    assert [e["step"] for e in tuned.log] == [1, 3, 6]
    assert all(e["step_ratio"] for e in tuned.log)
    every = tuning.tune("llama", steps=8)
    assert tuning.same(tuning.weights(tuned), tuning.weights(every))
    losses = [e["loss"] for e in every.log]
    # Trainer of transformers 4 writes four decimals.
    assert tuned.log[1]["loss"] == pytest.approx(sum(losses[1:3]) / 2, abs=1.1e-4)


def test_step_ratios_are_those_of_the_weights(tuning):
    """One step on a copy, by the definition."""
    loaded = tuning.loaded("llama")
    before = {n: p.detach().double() for n, p in loaded.model.named_parameters()}
    tuned = tuning.tune(loaded, steps=1, **RATE)
    after = {n: p.detach().double() for n, p in loaded.model.named_parameters()}
    for group, ratio in tuned.log[0]["step_ratio"].items():
        names = [n for n in before if _in(n, group)]
        moved = sum(float((after[n] - before[n]).square().sum()) for n in names) ** 0.5
        size = sum(float(before[n].square().sum()) for n in names) ** 0.5
        assert ratio == pytest.approx(moved / size, rel=5e-3)


def _in(name, group):
    return name.startswith(f"{group}.") if group != "rest" else ".layers." not in name


def test_under_lora_it_is_the_product_s_against_the_base(tuning):
    tuned = tuning.tune("llama", condition="lora", steps=1, learning_rate=1e-2)
    model = tuned.loaded.model
    for group, ratio in tuned.log[0]["step_ratio"].items():
        layers = [m for n, m in model.named_modules() if f".{group}." in n and hasattr(m, "lora_A")]
        moved = sum(
            float(m.get_delta_weight("default").detach().double().square().sum()) for m in layers
        )
        size = sum(float(m.base_layer.weight.detach().double().square().sum()) for m in layers)
        assert ratio == pytest.approx((moved / size) ** 0.5, rel=1e-4)
    assert list(tuned.log[0]["step_ratio"]) == [g.name for g in tuned.record.groups[:-1]]


# --- Trackers ---------------------------------------------------------------------------------


def test_tensorboard_gets_the_loss(tuning, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tuned = tuning.tune("llama", folder=tmp_path, track="tensorboard", save_every=2)
    (events,) = tmp_path.rglob("events.out.tfevents*")
    found = EventAccumulator(str(events.parent))
    found.Reload()
    losses = [e.value for e in found.Scalars("train/loss")]
    assert losses == pytest.approx([e["loss"] for e in tuned.log])
    assert "checkpoints" not in events.parts


# --- Objectives -------------------------------------------------------------------------------


def changed(tuning, *, columns=(), **made):
    """The texts, each with what `made` makes of it."""
    data = tuning.data()
    examples = (replace(e, **{k: make(e.text) for k, make in made.items()}) for e in data.examples)
    columns = {**data.columns, **{name: name for name in columns}}
    return replace(data, examples=tuple(examples), columns=columns)


def prompted(tuning):
    return changed(tuning, columns=("prompt",), prompt=lambda _: "w1 w2 w3")


def sentences(tuning):
    return changed(tuning, text=lambda text: f"{text}. {text} w1. w2 {text}.")


TRAINED = {
    "causal-lm": ("llama", None),
    "sft": ("llama", prompted),
    "causal-span": ("llama", None),
    "masked-lm": ("bert", None),
    "span-denoise": ("bert", None),
    "nsp": ("pretraining", sentences),
    "simcse": ("llama", None),
    "barlow-twins": ("encoder", None),
    "classification": ("bert_classifier", lambda tuning: tuning.labelled(tuning.data())),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_trains_and_learns(tuning, name):
    model, change = TRAINED[name]
    data = change(tuning) if change else tuning.data()
    options = {"objective": name, "data": data, "steps": 12, "batch_size": 12, "eval_examples": 9}
    tuned = tuning.tune(model, learning_rate=1e-2, max_length=40, **options)
    outcome = tuned.record.outcome
    assert tuned.record.data.objective == name
    assert outcome.loss < outcome.first_loss
    assert all(group.step_ratio for group in tuned.record.groups)


def test_a_trained_classifier_tells_the_same_classes_after_it_was_loaded(tuning, tmp_path):
    data = tuning.labelled(tuning.data())
    tuned = tuning.tune("bert_classifier", data=data, steps=2)
    save(tuned, tmp_path)
    found = load(str(tmp_path), labels=("neg", "pos", "odd"))
    assert tuning.same(tuning.weights(tuned), tuning.weights(replace(tuned, loaded=found)))
    assert not any("head" in note for note in found.notes)


HEADS = {"bert_classifier": ("bert.pooler", "classifier"), "llama_classifier": ("score",)}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_trains_beside_the_adapters(tuning, name):
    data, before = tuning.labelled(tuning.data()), tuning.loaded(name).model.state_dict()
    options = {"steps": 12, "batch_size": 12, "learning_rate": 1e-2, "eval_examples": 9}
    tuned = tuning.tune(name, data=data, condition="lora", **options)
    after = tuning.weights(tuned)
    for part in HEADS[name]:
        for own, module in tuned.loaded.model.get_base_model().get_submodule(part).named_children():
            assert own in {"original_module", "modules_to_save"}, module
    for key, value in before.items():
        head = next((part for part in HEADS[name] if key.startswith(f"{part}.")), None)
        if head is None:
            kept = {k for k in after if k.replace(".base_layer", "").endswith(f".model.{key}")}
            assert any(tuning.torch.equal(after[k], value) for k in kept), key
        else:
            inner = key.removeprefix(head)
            at = f"base_model.model.{head}"
            assert tuning.torch.equal(after[f"{at}.original_module{inner}"], value)
            assert not tuning.torch.equal(after[f"{at}.modules_to_save.default{inner}"], value)
    outcome, rest = tuned.record.outcome, tuned.record.groups[-1]
    assert outcome.loss < outcome.first_loss
    assert rest.trained == sum(
        v.numel() for k, v in before.items() if k.startswith(tuple(f"{p}." for p in HEADS[name]))
    )
    assert f"the head ({', '.join(HEADS[name])}) trains whole" in " ".join(tuned.record.notes)


@pytest.mark.slow
def test_a_head_beside_adapters_is_taken_up_again(tuning, tmp_path):
    data = tuning.labelled(tuning.data())
    options = {"data": data, "condition": "lora", "steps": 4, "save_every": 2}
    whole = tuning.tune("bert_classifier", **options)

    def stop(entry):
        if entry["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuning.tune("bert_classifier", folder=tmp_path, on_step=stop, **options)
    again = tuning.tune("bert_classifier", folder=tmp_path, resume=True, **options)
    assert again.record.outcome.resumed_from == 2
    assert tuning.same(tuning.weights(whole), tuning.weights(again))


def test_a_checkpoint_of_an_earlier_rule_is_of_another_run(tuning, tmp_path, monkeypatch):
    earlier = replace(CONDITIONS["frozen-lower"], rule=None)
    options = {"condition": "frozen-lower", "folder": tmp_path, "save_every": 1, "steps": 3}

    def stop(entry):
        if entry["step"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as then:
        then.setattr(run, "CONDITIONS", {**CONDITIONS, "frozen-lower": earlier})
        with pytest.raises(KeyboardInterrupt):
            tuning.tune("llama", on_step=stop, **options)
    with pytest.raises(SchemaError, match="checkpoint of another run: 'rule=None, now 2'"):
        tuning.tune("llama", resume=True, **options)
