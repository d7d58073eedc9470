import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwise.objectives.spans import spans

POSITIONS = st.integers(min_value=1, max_value=600)


@given(POSITIONS, st.integers(0, 99), st.integers(0, 99))
def test_spans_lie_in_the_text_in_order_and_apart(tokens, seed, index):
    found = spans(tokens, seed=seed, index=index)
    assert all(0 <= span.start < span.stop <= tokens for span in found)
    assert all(a.stop < b.start for a, b in itertools.pairwise(found))


@given(POSITIONS, st.integers(0, 99))
def test_their_number_and_size_are_fixed_by_the_length(tokens, seed):
    found = spans(tokens, seed=seed, index=0)
    hidden = max(1, round(0.15 * tokens))
    assert sum(map(len, found)) == hidden
    assert len(found) == max(1, round(hidden / 3))


def test_fifteen_percent_in_spans_of_three():
    every = [spans(400, seed=0, index=i) for i in range(50)]
    lengths = [len(span) for found in every for span in found]
    assert sum(lengths) / (50 * 400) == pytest.approx(0.15)
    assert sum(lengths) / len(lengths) == pytest.approx(3.0)
    assert min(lengths) == 1
    assert max(lengths) > 6


def test_every_position_is_as_likely_to_be_hidden():
    counts = [0] * 20
    for i in range(4000):
        for span in spans(20, seed=1, index=i):
            for position in span:
                counts[position] += 1
    # 3 of 20 in one span: the ends are in one layout of 18, the middle in three.
    assert [round(c * 18 / 4000) for c in counts] == [1, 2, *([3] * 16), 2, 1]


def test_the_seed_and_the_index_fix_them():
    drawn = {(s, i): spans(200, seed=s, index=i) for s in (0, 1) for i in (0, 1)}
    assert spans(200, seed=0, index=0) == drawn[0, 0]
    assert len({str(found) for found in drawn.values()}) == 4
