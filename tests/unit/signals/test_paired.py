"""Intervals of means over few seeds."""

import numpy as np
import pytest
from scipy.stats import t

from layerwise.signals.paired import seed_interval


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
