"""The data of a run: what is usable, what is held out, what each forward is made of."""

from dataclasses import replace

import pytest
import torch

from layerwise.data.text import Example
from layerwise.errors import BadInputError, DataError
from layerwise.objectives import OBJECTIVES, resolve
from layerwise.tuning.material import gather


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


def test_too_few_texts_to_compare_are_refused_before_anything_runs(tuning):
    with pytest.raises(BadInputError, match=r"barlow-twins.*'2'; expected at least 3"):
        gathered(tuning, "encoder", objective="barlow-twins", batch_size=2)
    with pytest.raises(DataError, match=r"simcse needs other texts"):
        gathered(tuning, "encoder", eval_examples=1)


def test_a_comparing_loss_needs_two_texts_a_batch(tuning):
    assert OBJECTIVES["simcse"].coupled
    with pytest.raises(BadInputError, match=r"batch size leaves simcse.*1'; expected at least 2"):
        gathered(tuning, "encoder", batch_size=1)


def test_texts_must_fit_the_positions(tuning):
    long = replace(tuning.data(4), examples=tuple(Example("w1 " * 90) for _ in range(4)))
    with pytest.raises(
        BadInputError, match=r"texts longer than the model's positions: '91'.*length 64"
    ):
        gathered(tuning, "gpt2", data=long, max_length=128)


def test_nothing_usable_is_refused(tuning):
    empty = replace(tuning.data(2), examples=(Example(""), Example("")))
    with pytest.raises(DataError):
        gathered(tuning, data=empty)
