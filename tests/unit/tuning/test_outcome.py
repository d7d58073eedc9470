"""A run's outcome and its groups, worked out of planted log lines."""

import numpy as np
import pytest

from layerwise.tuning.groups import layer_groups
from layerwise.tuning.outcome import group_records, matched_tau, outcome
from layerwise.tuning.record import TuneSettings

REST = {"rows": 10, "examples": 10, "seconds": 2.5, "peak_memory_bytes": 7, "resumed_from": None}


def test_losses_and_counts():
    settings = TuneSettings(steps=40, batch_size=3, accumulation=2)
    entries = [{"step": i, "loss": float(i)} for i in range(1, 41)]
    made = outcome(settings, entries, processes=2, **REST)
    assert (made.first_loss, made.loss) == (1.0, np.mean([37, 38, 39, 40]))
    assert made.examples == 40 * 3 * 2 * 2
    assert made.epochs == made.examples / 10
    assert (made.eval_loss, made.first_eval_loss, made.processes) == (None, None, 2)
    assert (made.seconds, made.peak_memory_bytes, made.steps) == (2.5, 7, 40)


def test_few_lines_have_a_last_one_too():
    entries = [
        {"step": 0, "eval_loss": 9.0},
        {"step": 1, "loss": 4.0},
        {"step": 1, "eval_loss": 8.0},
    ]
    made = outcome(TuneSettings(steps=1), entries, processes=1, **REST)
    assert (made.first_loss, made.loss) == (4.0, 4.0)
    assert (made.first_eval_loss, made.eval_loss) == (9.0, 8.0)
    assert made.quality == made.first_quality == {}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_an_evaluation_found_beside_the_loss(count):
    entries = [{"step": 1, "loss": 4.0}]
    entries += [{"step": i, "eval_loss": i, "eval_accuracy": i / 4} for i in range(count)]
    made = outcome(TuneSettings(steps=1), entries, processes=1, **REST)
    assert (made.first_eval_loss, made.first_quality) == (0, {"accuracy": 0.0})
    assert (made.eval_loss, made.quality) == (count - 1, {"accuracy": (count - 1) / 4})


def test_groups_have_their_sizes_rates_and_steps(tuning):
    loaded = tuning.loaded("llama")
    groups = layer_groups(loaded.model, loaded.stacks)
    low, high, rest = groups
    factors = {high.parameters[0]: 0.5, high.parameters[1]: 0.25}
    entries = [{"step": i, "step_ratio": {high.name: i / 100}} for i in range(101)]
    entries.append({"step": 100, "eval_loss": 1.0})
    settings = TuneSettings(learning_rate=1e-2)
    made = {g.name: g for g in group_records(loaded.model, groups, factors, settings, entries)}
    found = made[high.name]
    sizes = {n: p.numel() for n, p in loaded.model.named_parameters()}
    assert found.trained == sum(sizes[n] for n in factors)
    assert found.parameters == sum(sizes[n] for n in high.parameters)
    assert found.learning_rate == 5e-3
    steps = (found.step_ratio_low, found.step_ratio, found.step_ratio_high)
    assert steps == pytest.approx((0.05, 0.5, 0.95))
    assert (made[low.name].trained, made[low.name].learning_rate) == (0, None)
    assert made[rest.name].step_ratio is None
    assert [g.row for g in made.values()] == [0, 1, None]


def test_tau_to_match_is_the_median_of_what_moved_in_the_first_steps():
    ratios = [{"a": 0.1, "b": 0.2}, {"a": 0.4, "b": 0.0}, {}, {"a": 9.0}]
    entries = [{"step": i, "step_ratio": made} for i, made in enumerate(ratios, 1)]
    assert matched_tau([*entries, {"step": 1, "eval_loss": 1.0}], steps=3) == 0.2
