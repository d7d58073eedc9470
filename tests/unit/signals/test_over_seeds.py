"""Means over seeds with intervals: from seeds alone, and from those of each seed's own."""

import math

import numpy as np
import pytest
from scipy.stats import t

from layerwise.signals.over_seeds import pooled, seed_interval

#: Student's t, 97.5 %, from a printed table.
T = {1: 12.706, 2: 4.303, 4: 2.776}


def test_one_seed_keeps_its_interval():
    assert pooled([0.3], [0.1], [0.6]) == (0.3, 0.1, 0.6)


@pytest.mark.parametrize("values", [(0.2, 0.3), (0.2, 0.3, 0.7), (0.1, 0.4, 0.2, 0.3, 0.25)])
def test_seeds_alone_give_the_t_interval(values):
    n = len(values)
    mean = sum(values) / n
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    half = T[n - 1] * deviation / math.sqrt(n)
    assert pooled(values, values, values) == pytest.approx(
        (mean, mean - half, mean + half), rel=1e-3
    )


def test_probes_alone_give_the_mean_of_the_intervals_side_by_side():
    """Equal seeds: what is left is the probes, which more seeds do not make more certain."""
    assert pooled([0.3] * 3, [0.1, 0.2, 0.0], [0.4, 0.4, 0.5]) == pytest.approx((0.3, 0.1, 1.3 / 3))


def test_both_are_joined_in_quadrature():
    mean, low, high = pooled([0.2, 0.4], [0.1, 0.3], [0.25, 0.45])
    seeds = T[1] * 0.1
    assert mean == pytest.approx(0.3)
    assert mean - low == pytest.approx(math.hypot(0.1, seeds), rel=1e-3)
    assert high - mean == pytest.approx(math.hypot(0.05, seeds), rel=1e-3)


def test_an_interval_that_misses_its_value_never_narrows_the_other_part():
    """A bootstrap's percentiles may lie on one side of the value."""
    mean, low, high = pooled([0.2, 0.4], [0.25, 0.45], [0.3, 0.5])
    assert mean - low == pytest.approx(T[1] * 0.1, rel=1e-3)
    assert high > mean


def test_one_seed_has_no_interval():
    assert seed_interval(np.array([1.0])) is None


def test_equal_values_have_an_interval_without_width():
    assert seed_interval(np.array([0.5, 0.5, 0.5])) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("count", [3, 5])
def test_it_covers_the_mean_of_normal_values_about_as_often_as_it_says(count):
    rng = np.random.default_rng(0)
    ends = [seed_interval(rng.standard_normal(count)) for _ in range(400)]
    covered = np.mean([low <= 0.0 <= high for low, high in ends])
    assert 0.88 <= covered <= 0.99


def test_with_many_seeds_it_is_student_s():
    values = np.random.default_rng(1).standard_normal(200)
    low, high = seed_interval(values)
    expected = t.interval(0.95, 199, values.mean(), values.std(ddof=1) / np.sqrt(200))
    assert (low, high) == pytest.approx(expected, abs=0.02)


def test_resamples_are_the_same_for_all_values_of_as_many_seeds():
    values = np.array([0.1, 0.4, 0.2])
    low, high = seed_interval(values)
    assert seed_interval(values + 1.0) == pytest.approx((low + 1.0, high + 1.0))
    assert seed_interval(values) == (low, high)
