"""The data of a run: what is usable, what is held out, what each forward sees, whoever makes it."""

from collections import Counter
from dataclasses import replace

import torch

from layerwise.data.batches import Batch
from layerwise.data.text import Example
from layerwise.objectives import resolve
from layerwise.tuning.material import Forwards, gather, held_out, order


def gathered(tuning, name="llama", data=None, objective="auto", **options):
    loaded, data = tuning.loaded(name), data or tuning.data()
    loss = resolve(objective, loaded=loaded, data=data)
    return gather(loaded, data, loss, tuning.settings(**options))


def test_what_has_nothing_to_predict_is_left_out(tuning):
    data = tuning.data(8)
    data = replace(data, examples=(*data.examples, Example("")))
    material = gathered(tuning, data=data, batch_size=2)
    assert len(material.train) == 8
    assert material.held is None
    assert material.evaluation(tuning.settings()) is None
    assert len(material.batches.batches[0]) == 8


def test_forwards_are_the_same_rows_whatever_the_number_of_processes(tuning):
    settings = tuning.settings(accumulation=2)
    material = gathered(tuning, accumulation=2)
    one = material.forwards(settings, steps=3, processes=1)
    two = material.forwards(replace(settings, accumulation=1), steps=3, processes=2)
    assert len(one) == len(two) == 6
    for i in range(6):
        assert torch.equal(one[i].batch.index, two[i].batch.index)
        assert torch.equal(one[i].batch.inputs["input_ids"], two[i].batch.inputs["input_ids"])


def test_masks_differ_from_forward_to_forward_and_not_from_run_to_run(tuning):
    settings = tuning.settings(steps=12)  # Two epochs of 24 examples by 4.
    make = lambda: gathered(tuning, "bert").forwards(settings, steps=12, processes=1)  # noqa: E731
    first, again = make(), make()
    hidden = [(first[i].batch.labels != -100).sum() for i in range(12)]
    assert all(torch.equal(first[i].batch.labels, again[i].batch.labels) for i in range(12))
    assert sum(hidden) > 12


def test_evaluation_is_always_the_same_and_of_all_that_is_held_out(tuning):
    material = gathered(tuning, "bert", eval_examples=10)
    forwards = material.evaluation(tuning.settings())
    assert [len(forwards[i].batch) for i in range(len(forwards))] == [4, 4, 2]
    assert len(material.held) == 10
    assert len(material.train) == 14


def test_texts_too_few_to_be_compared_join_the_batch_before(tuning):
    material = gathered(tuning, "encoder", eval_examples=9)
    forwards = material.evaluation(tuning.settings())
    assert [len(forwards[i].batch) for i in range(len(forwards))] == [8, 10]  # Each text twice.


def test_an_epoch_sees_every_example_once_but_for_what_fills_no_batch():
    planned = order(11, batch_size=3, forwards=6, seed=4)
    assert [len(forward) for forward in planned] == [3] * 6
    first, second = planned[:3], planned[3:]
    for epoch in (first, second):
        assert max(Counter(i for forward in epoch for i in forward).values()) == 1
    assert {i for forward in first for i in forward} != set(range(11))
    assert first != second


def test_the_seed_decides_and_a_longer_run_begins_as_a_shorter_one():
    plans = [order(50, batch_size=5, forwards=12, seed=seed) for seed in (0, 1, 2)]
    assert len({tuple(plan) for plan in plans}) == 3
    assert order(50, batch_size=5, forwards=4, seed=1) == plans[1][:4]


def test_held_out_and_trained_on_are_all_there_is(tuning):
    data = tuning.data(20)
    train, held = held_out(data, examples=6, seed=1)
    assert (len(train), len(held)) == (14, 6)
    texts = Counter(e.text for e in (*train.examples, *held.examples))
    assert texts == Counter(e.text for e in data.examples)
    assert held_out(data, examples=6, seed=1)[1].examples == held.examples
    assert held_out(data, examples=6, seed=2)[1].examples != held.examples


def test_a_forward_is_made_of_its_examples_with_a_seed_of_its_own(tuning):
    asked, data = [], tuning.data(4)

    def batches_of(some, seed, packs):
        assert not packs
        asked.append((some.examples, seed))
        ones = torch.ones(len(some), 1, dtype=torch.long)
        return (Batch({"input_ids": ones}, None, ones.bool(), torch.arange(len(some))),)

    forwards = Forwards(data, [(0, 1), (2, 3), (0, 1)], batches_of, 7)
    assert [forwards[i].number for i in range(len(forwards))] == [0, 1, 2]
    halves = data.examples[:2], data.examples[2:]
    assert [examples for examples, _ in asked] == [halves[0], halves[1], halves[0]]
    assert len({seed for _, seed in asked}) == 3
    again = forwards[1]
    assert asked[-1] == asked[1]
    moved = again.to("cpu", non_blocking=True)
    assert moved.number == 1
    assert torch.equal(moved.batch.inputs["input_ids"], again.batch.inputs["input_ids"])
