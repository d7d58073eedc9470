"""Sets of blocks: different, ascending, the same ones for a seed."""

from math import comb

import pytest

from laboratory.sets import contiguous_sets, random_sets, single_sets
from layerwise.errors import BadInputError


def test_random_sets_differ_and_are_of_the_rows():
    sets = random_sets(range(3, 30), size=5, count=32)
    assert len(set(sets)) == len(sets) == 32
    assert all(len(s) == 5 and list(s) == sorted(set(s)) for s in sets)
    assert {row for s in sets for row in s} <= set(range(3, 30))


def test_more_sets_of_a_seed_begin_with_its_fewer():
    rows = range(12)
    assert random_sets(rows, size=4, count=20, seed=3)[:7] == random_sets(
        rows, size=4, count=7, seed=3
    )
    assert random_sets(rows, size=4, count=7, seed=3) != random_sets(rows, size=4, count=7, seed=4)


@pytest.mark.parametrize("count", [15, 99])
def test_where_there_are_no_more_all_are_taken(count):
    assert set(random_sets(range(6), size=2, count=count)) == set(
        random_sets(range(6), size=2, count=14)
    ) | set(random_sets(range(6), size=2, count=comb(6, 2)))
    assert len(random_sets(range(6), size=2, count=count)) == 15


def test_single_and_contiguous_sets():
    assert single_sets((4, 1, 7)) == ((1,), (4,), (7,))
    assert contiguous_sets(range(5), size=3) == ((0, 1, 2), (1, 2, 3), (2, 3, 4))
    assert contiguous_sets((0, 2, 5), size=2) == ((0, 2), (2, 5))


@pytest.mark.parametrize("size", [0, 7])
def test_a_size_that_cannot_be_had_is_refused(size):
    line = f"blocks in a set: '{size}'; expected 1 to 6"
    with pytest.raises(BadInputError, match=line):
        random_sets(range(6), size=size, count=3)
    with pytest.raises(BadInputError, match=line):
        contiguous_sets(range(6), size=size)


def test_no_sets_are_refused():
    with pytest.raises(BadInputError, match="number of sets: '0'; expected at least 1"):
        random_sets(range(6), size=2, count=0)
