"""Slopes of several seeds as one, against the formulas written out."""

import math

import pytest

from layerwise.signals.pooling import pooled

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


def test_a_lower_level_is_narrower():
    wide, narrow = (
        pooled([0.2, 0.4], [0.2, 0.4], [0.2, 0.4], level=level) for level in (0.95, 0.5)
    )
    # Student's t with one degree of freedom, 75 %, is 1.
    assert narrow[2] - narrow[0] == pytest.approx(0.1)
    assert wide[1] < narrow[1] < narrow[2] < wide[2]
