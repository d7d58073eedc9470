"""What counts as memory that ran out, and how a micro-batch is halved."""

import json
import weakref

import pytest
import torch

from layerwise.objectives import OBJECTIVES
from layerwise.study.shrink import HALVINGS, MOST, TooLargeError, halved, within_memory

FULL = torch.OutOfMemoryError("CUDA out of memory.")


def test_work_is_called_with_one_halving_more_each_time(tmp_path):
    asked = []

    def work(halvings):
        asked.append(halvings)
        if halvings < 2:
            raise FULL
        return "done"

    assert within_memory(work, tmp_path) == "done"
    assert asked == [0, 1, 2]
    asked.clear()
    assert within_memory(work, tmp_path) == "done"
    assert asked == [2]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"halvings": 9}', '{"halvings": "2"}'])
def test_a_file_that_says_nothing_means_none(tmp_path, content):
    (tmp_path / HALVINGS).write_text(content)
    assert within_memory(lambda halvings: halvings, tmp_path) == 0


def test_other_errors_pass(tmp_path):
    def work(_halvings):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        within_memory(work, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_more_than_three_times(tmp_path):
    asked = []

    def work(halvings):
        asked.append(halvings)
        assert json.loads((tmp_path / HALVINGS).read_text()).get("halvings", 0) == halvings
        raise FULL

    (tmp_path / HALVINGS).write_text("{}")
    with pytest.raises(TooLargeError, match=r"halved 3 times too \(CUDA out of memory.\); try: a"):
        within_memory(work, tmp_path)
    assert asked == [*range(MOST + 1)]
    assert not list(tmp_path.iterdir())


def test_work_that_cannot_be_divided_ends_it_and_is_tried_whole_next_time(tmp_path):
    def work(halvings):
        if halvings:
            halved(3, halvings)
        raise FULL

    with pytest.raises(TooLargeError, match="micro-batch that cannot be divided: '3 by 2'"):
        within_memory(work, tmp_path)
    assert not list(tmp_path.iterdir())


def test_tensors_of_the_failed_try_are_gone_before_the_next(tmp_path):
    held = []

    def work(halvings):
        if halvings:
            return [tensor() is not None for tensor in held]
        tensor = torch.ones(3)
        held.append(weakref.ref(tensor))
        raise MemoryError

    assert within_memory(work, tmp_path) == [False]


def test_a_loss_that_compares_texts_is_whole_or_not_at_all():
    losses = [OBJECTIVES[name] for name in ("causal-lm", "simcse")]
    assert halved(8, 0, *losses) == 8
    assert halved(8, 3, losses[0]) == 1
    with pytest.raises(TooLargeError, match=r"simcse compares the texts of a batch.*below 8"):
        halved(8, 1, *losses)
