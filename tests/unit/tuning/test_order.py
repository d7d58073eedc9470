"""Which examples a forward sees, whoever makes it."""

from collections import Counter

import pytest
import torch

from layerwise.data.batches import Batch
from layerwise.data.text import Example, TextData
from layerwise.errors import DataError
from layerwise.tuning.order import Forwards, held_out, order


def text(n):
    made = tuple(Example(f"t{i}") for i in range(n))
    return TextData("made", "0" * 64, made, {"text": "text"}, n)


def test_an_epoch_sees_every_example_once_but_for_what_fills_no_batch():
    planned = order(11, batch_size=3, forwards=6, seed=4)
    assert [len(forward) for forward in planned] == [3] * 6
    first, second = planned[:3], planned[3:]
    for epoch in (first, second):
        assert max(Counter(i for forward in epoch for i in forward).values()) == 1
    assert {i for forward in first for i in forward} != set(range(11))
    assert first != second


def test_a_longer_run_begins_as_a_shorter_one():
    assert order(10, batch_size=4, forwards=9, seed=0)[:4] == order(
        10, batch_size=4, forwards=4, seed=0
    )


def test_the_seed_decides():
    plans = {tuple(order(50, batch_size=5, forwards=10, seed=seed)) for seed in (0, 1, 2)}
    assert len(plans) == 3


def test_a_batch_must_be_filled():
    with pytest.raises(
        DataError, match=r"fewer training examples than a batch holds: '3'; .*--batch-size 3"
    ):
        order(3, batch_size=4, forwards=1, seed=0)


def test_held_out_and_trained_on_are_all_there_is():
    train, held = held_out(text(20), examples=6, seed=1)
    assert (len(train), len(held)) == (14, 6)
    assert {e.text for e in (*train.examples, *held.examples)} == {f"t{i}" for i in range(20)}
    assert held_out(text(20), examples=6, seed=1)[1].examples == held.examples
    assert held_out(text(20), examples=6, seed=2)[1].examples != held.examples


def test_something_must_be_left():
    with pytest.raises(
        DataError, match=r"examples held out for evaluation: '5'; expected fewer than the 5"
    ):
        held_out(text(5), examples=5, seed=0)


def test_a_forward_is_made_of_its_examples_with_a_seed_of_its_own():
    asked = []

    def batches_of(some, seed):
        asked.append((tuple(e.text for e in some.examples), seed))
        ones = torch.ones(len(some), 1, dtype=torch.long)
        return (Batch({"input_ids": ones}, None, ones.bool(), torch.arange(len(some))),)

    forwards = Forwards(text(4), [(0, 1), (2, 3), (0, 1)], batches_of=batches_of, seed=7)
    assert len(forwards) == 3
    assert [forwards[i].number for i in (0, 1, 2)] == [0, 1, 2]
    assert [names for names, _ in asked] == [("t0", "t1"), ("t2", "t3"), ("t0", "t1")]
    assert len({seed for _, seed in asked}) == 3
    again = forwards[1]
    assert asked[-1] == asked[1]
    moved = again.to("cpu", non_blocking=True)
    assert moved.number == 1
    assert torch.equal(moved.batch.inputs["input_ids"], again.batch.inputs["input_ids"])
