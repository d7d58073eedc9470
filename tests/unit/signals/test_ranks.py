"""Spearman's correlation, with its edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from layerwise.errors import BadInputError
from layerwise.signals.ranks import spearman, spearman_to


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20))
def test_it_is_scipys_wherever_scipys_is_defined(pairs):
    x, y = np.array(pairs, dtype=np.float64).T
    if np.ptp(x) > 0 and np.ptp(y) > 0:
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    else:
        assert spearman(x, y) == 0.0


def test_only_the_order_counts():
    x = np.array([3.0, 1.0, 2.0])
    assert spearman(x, np.exp(x)) == pytest.approx(1.0)
    assert spearman(x, -x) == pytest.approx(-1.0)


def test_one_block_has_no_ranking():
    assert spearman(np.array([1.0]), np.array([2.0])) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_without_a_rank_is_refused(bad):
    with pytest.raises(BadInputError, match="expected a finite value for every block"):
        spearman(np.array([1.0, bad]), np.array([1.0, 2.0]))


def test_spearman_to_is_scipys():
    draw = np.random.default_rng(4)
    reference, replicates = draw.normal(size=9), draw.normal(size=(20, 9)).round(1)
    expected = [spearmanr(reference, r).statistic for r in replicates]
    np.testing.assert_allclose(spearman_to(reference, replicates), expected, atol=1e-12)
    assert (spearman_to(np.ones(9), replicates) == 0).all()
