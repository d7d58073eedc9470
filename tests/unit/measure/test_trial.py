"""A placement tried on a model that is lent for it."""

from dataclasses import replace

import pytest
import torch

from layerwise.errors import DataError, NonFiniteError, SchemaError
from layerwise.measure.trial import Quality, bench, train_rivals, trial
from layerwise.objectives import resolve
from layerwise.tuning.lora import placed_on


@pytest.fixture(scope="module")
def ready(tuning):
    """Makes a bench of a tiny model."""

    def made(name="llama", objective="auto", quality=None, **settings):
        loaded = tuning.loaded(name)
        texts = tuning.data(32)
        train, held = (replace(texts, examples=texts.examples[i::2]) for i in range(2))
        loss = resolve(objective, loaded=loaded, data=train)
        return bench(loaded, train, held, loss, tuning.settings(**settings), quality=quality)

    return made


def outputs(loaded):
    ids = torch.arange(5, 17).view(2, 6)
    with torch.no_grad():
        return loaded.model(input_ids=ids).logits


@pytest.mark.parametrize("name", ["llama", "bert", "gpt2"])
def test_the_model_is_bit_for_bit_what_it_was(ready, tuning, name):
    started = ready(name)
    model = started.loaded.model
    before, logits = tuning.weights(started.loaded), outputs(started.loaded)
    names = [n for n, _ in model.named_modules()]
    trial(started, placed_on(started.loaded), seed=1, learning_rate=1e-2)
    assert tuning.same(before, tuning.weights(started.loaded))
    assert torch.equal(logits, outputs(started.loaded))
    assert [n for n, _ in model.named_modules()] == names
    assert all(p.requires_grad for p in model.parameters())


def test_a_second_trial_gives_what_the_first_gave(ready):
    started = ready(steps=4)
    where = placed_on(started.loaded, [1])
    first = trial(started, where, seed=3, learning_rate=1e-2)
    trial(started, placed_on(started.loaded, [0]), seed=3, learning_rate=1e-2)
    again = trial(started, where, seed=3, learning_rate=1e-2)
    assert first.loss_after == again.loss_after
    assert first.loss_after != trial(started, where, seed=4, learning_rate=1e-2).loss_after


def test_the_batches_of_a_seed_are_the_same_for_every_placement(ready, monkeypatch):
    from layerwise.tuning import trainer

    started, seen = ready(steps=4), []
    losses = trainer.ForwardTrainer._losses

    def heard(self, model, forward):
        seen.append(forward.batch.inputs["input_ids"].clone())
        return losses(self, model, forward)

    monkeypatch.setattr(trainer.ForwardTrainer, "_losses", heard)
    made = [
        trial(started, placed_on(started.loaded, [i]), seed=5, learning_rate=1e-2) for i in (0, 1)
    ]
    half = len(seen) // 2
    assert half == 4
    assert all(torch.equal(a, b) for a, b in zip(seen[:half], seen[half:], strict=True))
    assert made[0].tokens == made[1].tokens
    assert made[0].loss_after != made[1].loss_after


def test_training_lowers_the_loss_and_counts_what_it_used(ready):
    started = ready(steps=30)
    where = placed_on(started.loaded)
    made = trial(started, where, seed=0, learning_rate=3e-2)
    assert made.loss_before == started.loss_before
    assert made.improvement == made.loss_before - made.loss_after > 0.0
    assert made.trainable_parameters == where.adapter_parameters
    assert made.steps == 30
    assert made.tokens > 30 * 4
    assert made.seconds_per_step > 0.0
    assert made.peak_memory_bytes > 0


def test_a_rate_of_zero_changes_nothing(ready):
    made = trial(one := ready(steps=1), placed_on(one.loaded), seed=0, learning_rate=1e-30)
    assert made.loss_after == pytest.approx(made.loss_before, rel=1e-6)
    assert made.seconds_per_step > 0.0


@pytest.mark.parametrize("objective", ["simcse", "masked-lm"])
def test_a_loss_that_draws_is_measured_on_the_same_draws(ready, objective):
    first, second = (ready("bert", objective).loss_before for _ in range(2))
    assert first == second


@pytest.mark.parametrize("higher", [True, False])
def test_a_named_quality_is_the_improvement(ready, higher):
    count = Quality(
        "adapters", lambda loaded, _: float(hasattr(loaded.model, "peft_config")), higher
    )
    started = ready(quality=count)
    made = trial(started, placed_on(started.loaded), seed=0, learning_rate=1e-3)
    assert (made.quality_before, made.quality_after) == (0.0, 1.0)
    assert made.improvement == (1.0 if higher else -1.0)


def test_a_run_that_diverges_leaves_the_model_as_it_was(ready, tuning):
    started = ready(steps=6)
    before = tuning.weights(started.loaded)
    with pytest.raises(NonFiniteError, match=r"step|validation loss"):
        trial(started, placed_on(started.loaded), seed=0, learning_rate=1e30)
    assert tuning.same(before, tuning.weights(started.loaded))


def test_a_validation_loss_that_is_not_finite_is_refused(tuning):
    loaded, texts = tuning.loaded(), tuning.data(8)
    with torch.no_grad():
        loaded.model.lm_head.weight.fill_(float("nan"))
    loss = resolve("auto", loaded=loaded, data=texts)
    with pytest.raises(NonFiniteError, match="validation loss"):
        bench(loaded, texts, texts, loss, tuning.settings())


def test_text_and_placements_that_cannot_be_used_are_refused(ready, tuning):
    started = ready(batch_size=20)
    with pytest.raises(DataError, match="fewer training examples"):
        trial(started, placed_on(started.loaded), seed=0, learning_rate=1e-3)
    with pytest.raises(SchemaError, match="for another model"):
        trial(started, placed_on(tuning.loaded("bert")), seed=0, learning_rate=1e-3)


def test_all_rivals_go_one_way_before_the_next_and_equal_ones_once():
    trained, heard = [], []

    def train(rival, way):
        trained.append((rival, way))
        return f"{rival}{way}"

    def progress(jobs, title, total):
        heard.append((title, total))
        return iter(jobs)

    made = train_rivals("aba", (1, 0), train, title="trials", progress=progress)
    assert made == {"a": {1: "a1", 0: "a0"}, "b": {1: "b1", 0: "b0"}}
    assert trained == [("a", 1), ("b", 1), ("a", 0), ("b", 0)]
    assert heard == [("trials", 4)]
