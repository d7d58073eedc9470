"""Steps as they are: what is measured is a training step, what is fitted is found again."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import layerwise as lw
from laboratory.clock import (
    Measurement,
    anchors,
    errors,
    fit_bytes,
    fit_seconds,
    placed_rows,
    step_bytes,
    step_seconds,
)
from layerwise.errors import BadInputError
from layerwise.objectives import resolve

ROWS = [(1,), (4,), (2, 3), (0, 5), (1, 2, 4), (3, 4, 5), (0, 1, 2, 4)]


@pytest.fixture(scope="module")
def bench(deep):
    """A model of six blocks, its objective, batches and card."""
    loaded, data = deep.loaded(), deep.data()
    card = lw.card(loaded, data, examples=None, max_length=16, batch_size=4)
    objective = resolve("auto", loaded=loaded, data=data)
    made = objective.batches_for(loaded, data, batch_size=4, max_length=16, seed=0)
    return loaded, objective, made.batches[:3], card


def planted(card, fixed, depth, module, *, checkpointing=False):
    """Measurements of a machine that is exactly as the model has it."""
    weights = card.column("backward_seconds") + card.column("forward_seconds") * checkpointing
    modules = [len(row.modules) for row in card.layers]
    return [
        Measurement(
            rows,
            fixed + depth * weights[min(rows) :].sum() + module * sum(modules[r] for r in rows),
        )
        for rows in [*anchors(card), (1, 3), (4,), (2, 3, 5)]
    ]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_machine_as_the_model_has_it_is_found_from_three_placements(small_card, checkpointing):
    card = small_card(6, backward_seconds=[3, 1, 4, 1, 5, 9], forward_seconds=2.0)
    found = planted(card, 7.0, 1.5, 0.25, checkpointing=checkpointing)
    fit = fit_seconds(card, found[:3], checkpointing=checkpointing)
    assert (fit.fixed, fit.depth, fit.module) == pytest.approx((7.0, 1.5, 0.25))
    assert errors(fit.of, found) == pytest.approx(0.0, abs=1e-9)


def test_bytes_are_those_kept_or_one_for_each_block_that_is_run_again(small_card):
    card = small_card(4, activation_bytes=[10.0, 20.0, 30.0, 40.0])
    kept = [Measurement(r, 5.0 + sum([10, 20, 30, 40][min(r) :])) for r in anchors(card)]
    assert fit_bytes(card, kept).of((2,)) == pytest.approx(75.0)
    again = [Measurement(r, 5.0 + 4 - min(r)) for r in anchors(card)]
    assert fit_bytes(card, again, checkpointing=True).of((1, 3)) == pytest.approx(8.0)


def test_nothing_is_fitted_below_zero(small_card):
    card = small_card(4)
    odd = [Measurement((3,), 2.0), Measurement((0,), 9.0), Measurement((0, 1, 2, 3), 8.0)]
    fit = fit_seconds(card, odd)
    assert fit.module == 0.0
    assert min(fit.fixed, fit.depth) >= 0.0
    assert 8.0 < fit.of((0,)) < 9.0


def test_errors_are_relative(small_card):
    measured = [Measurement((0,), 2.0), Measurement((1,), 4.0)]
    assert errors(lambda _rows: 3.0, measured) == pytest.approx([0.5, 0.25])


def test_too_few_placements_are_refused(small_card):
    card = small_card(4)
    same = [Measurement((3,), 1.0)] * 5
    with pytest.raises(BadInputError, match="placements to fit a step's cost to: '5'"):
        fit_seconds(card, same)
    with pytest.raises(BadInputError, match="three that differ in depth and number"):
        fit_seconds(card, [Measurement((3,), 1.0), Measurement((0, 1), 2.0)])


def test_a_card_without_timings_is_refused(small_card):
    card = small_card(4, backward_seconds=None)
    found = [Measurement(r, 1.0) for r in [(0,), (3,), (0, 1, 2, 3)]]
    with pytest.raises(BadInputError, match="card without timings and sizes of every block"):
        fit_seconds(card, found)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_is_timed_and_the_model_is_as_before(bench, deep, checkpointing):
    loaded, objective, batches, card = bench
    before, mode = deep.weights(loaded), loaded.model.training
    ticks = iter(range(100))
    made = step_seconds(
        loaded,
        objective,
        batches,
        card,
        (1, 2),
        checkpointing=checkpointing,
        clock=lambda: float(next(ticks)),
    )
    assert made == Measurement((1, 2), 1.0)
    assert next(ticks) == 2 * (len(batches) - 1)
    assert deep.same(before, deep.weights(loaded))
    assert loaded.model.training == mode
    assert not loaded.model.is_activation_checkpointing
    assert not any("lora" in name for name, _ in loaded.model.named_modules())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_follows_the_model_of_it(bench, checkpointing):
    loaded, objective, batches, card = bench
    weigh = partial(step_bytes, loaded, objective, batches[0], card, checkpointing=checkpointing)
    found = [weigh(rows) for rows in ROWS]
    fit = fit_bytes(card, [weigh(rows) for rows in anchors(card)], checkpointing=checkpointing)
    assert np.median(errors(fit.of, found)) <= 0.1


def test_lower_blocks_keep_more_and_checkpointing_less(bench):
    loaded, objective, batches, card = bench
    weigh = partial(step_bytes, loaded, objective, batches[0], card)
    low, high = weigh((0,)).value, weigh((5,)).value
    assert low > 1.2 * high
    assert weigh((0,), checkpointing=True).value < 0.9 * low
    assert weigh((0,)).value == low


def test_the_bytes_are_those_of_the_tensors(bench):
    """A megabyte that is let go of and then a half are one megabyte at most."""
    loaded, objective, batches, card = bench

    def losses(model, batch):
        large = torch.ones(1 << 20, dtype=torch.uint8)
        del large
        half = torch.ones(1 << 19, dtype=torch.uint8)
        return objective.losses(model, batch) * half[0]

    plain = step_bytes(loaded, objective, batches[0], card, (5,)).value
    heavy = step_bytes(loaded, replace(objective, losses=losses), batches[0], card, (5,)).value
    assert plain < 1 << 19
    assert 1 << 20 <= heavy < (1 << 20) + (1 << 16)


def test_placements_are_of_the_cards_rank(bench):
    *_, card = bench
    placed = placed_rows(card, (0, 2))
    assert [block.index for block in placed.blocks] == [0, 2]
    assert placed.rank == card.capture.rank
