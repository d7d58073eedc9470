"""One batch of every objective about the same examples."""

from dataclasses import replace

import pytest

from layerwise.data.text import Example
from layerwise.distance.batches import Request, cut, matched
from layerwise.errors import BadInputError
from layerwise.objectives import OBJECTIVES

NAMES = ("masked-lm", "nsp", "barlow-twins")


def request_for(tuning, *, model="pretraining", names=NAMES, texts=(), **options):
    data = tuning.data(12)
    extra = tuple(map(Example, texts))
    data = replace(data, examples=(*extra, *data.examples))
    chosen = [OBJECTIVES[name] for name in names]
    how = {"batch_size": 6, "max_length": 16, "seed": 0} | options
    return Request(tuning.loaded(model), data, chosen, **how)


def seen(found):
    return {
        name: sorted({int(i) for b in s.batches for i in b.index}) for name, s in found.sets.items()
    }


def test_every_example_is_in_one_batch_in_an_order_by_the_seed():
    chunks = cut(50, batch_size=8, seed=0)
    assert [len(chunk) for chunk in chunks] == [8, 8, 8, 8, 8, 10]
    assert sorted(i for chunk in chunks for i in chunk) == list(range(50))
    assert chunks == cut(50, batch_size=8, seed=0)
    assert chunks != cut(50, batch_size=8, seed=1)


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        *((16, 8, [8, 8]), (19, 8, [8, 8, 3]), (18, 8, [8, 10])),
        *((11, 8, [8, 3]), (8, 4, [4, 4]), (10, 5, [5, 5])),  # What the hints below say.
    ],
)
def test_what_is_too_little_to_compare_joins_the_last_batch(count, size, sizes):
    assert [len(chunk) for chunk in cut(count, batch_size=size, seed=0)] == sizes


@pytest.mark.parametrize(
    ("count", "hint"),
    [(8, "--examples 11 or more, or --batch-size 4"), (10, "--batch-size 5"), (1, "--examples 11")],
)
def test_one_batch_has_no_halves(count, hint):
    message = f"too few examples for two halves: '{count}'; expected at least 11; try: .*{hint}"
    with pytest.raises(BadInputError, match=message):
        cut(count, batch_size=8, seed=0)


def test_no_more_examples_are_asked_for_than_there_are():
    hint = "try: text of 11 rows or more, or --batch-size 4"
    with pytest.raises(BadInputError, match=hint):
        cut(8, batch_size=8, seed=0, available=10)


def test_all_objectives_see_the_same_examples(tuning):
    asked = request_for(tuning)
    found = matched(asked, 3, (7, 1, 4, 9))
    assert found.examples == (7, 1, 4, 9)
    assert seen(found) == {name: [0, 1, 2, 3] for name in NAMES}
    assert all(len(s.batches) == 1 for s in found.sets.values())
    assert not found.dropped.total()


def test_what_one_objective_leaves_out_is_left_out_for_all(tuning):
    asked = request_for(tuning, texts=["w3", "w4"])  # One word has no two halves.
    found = matched(asked, 0, (5, 0, 8, 1, 9))
    assert found.examples == (5, 8, 9)
    assert found.dropped == {"masked-lm": 0, "nsp": 2, "barlow-twins": 0}
    assert seen(found) == {name: [0, 1, 2] for name in NAMES}
    # The others were made anew: no text that was left out is compared with the rest.
    assert len(found.sets["barlow-twins"].batches[0]) == 6


def test_too_few_that_all_can_use_make_no_batch(tuning):
    asked = request_for(tuning, texts=["w3", "w4"])
    found = matched(asked, 0, (0, 1, 5, 6))
    assert found.examples == ()
    assert found.sets == {}
    # The third cannot compare the two texts that the second left over.
    assert found.dropped == {"masked-lm": 0, "nsp": 2, "barlow-twins": 2}


def test_draws_differ_from_batch_to_batch_and_agree_again(tuning):
    asked = request_for(tuning, names=("masked-lm", "span-denoise"))
    inputs = [
        matched(asked, number, (1, 2, 3)).sets["masked-lm"].batches[0].inputs["input_ids"]
        for number in (0, 1, 0)
    ]
    assert (inputs[0] != inputs[1]).any()
    assert (inputs[0] == inputs[2]).all()


def test_a_batch_size_that_an_objective_cannot_use_is_said(tuning):
    with pytest.raises(BadInputError, match="batch size leaves barlow-twins too few"):
        matched(request_for(tuning, batch_size=2), 0, (1, 2))


def test_texts_beyond_the_model_s_positions_are_refused(tuning):
    asked = request_for(tuning, texts=["w1 " * 90], max_length=100)
    with pytest.raises(BadInputError, match="longer than the model's positions: '92'"):
        matched(asked, 0, (0, 5, 6, 7))
