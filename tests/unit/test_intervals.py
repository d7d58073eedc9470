"""Intervals cover what they say, over seeds of every kind, and say nothing of too few."""

import numpy as np
import pytest
from scipy import stats

from layerwise.intervals import (
    FEWEST,
    jackknife_interval,
    mean_interval,
    percentiles,
    resampled_interval,
    seeds_to_decide,
)


def lognormal(spread):
    return lambda rng, size: rng.lognormal(0, spread, size), np.exp(spread**2 / 2)


KINDS = {
    "normal": (lambda rng, size: rng.standard_normal(size), 0.0),
    "t3": (lambda rng, size: rng.standard_t(3, size), 0.0),
    "skewed": lognormal(0.5),
    "very skewed": lognormal(1.0),
}


def coverage(kind, count, draws=2000):
    """The share of samples whose interval holds the mean."""
    make, mean = KINDS[kind]
    samples = make(np.random.default_rng(count), (draws, count))
    ends = np.array([mean_interval(sample) for sample in samples])
    return float(((ends[:, 0] <= mean) & (mean <= ends[:, 1])).mean())


@pytest.mark.parametrize("count", [3, 5, 10, 20, 60])
@pytest.mark.parametrize("kind", ["normal", "t3", "skewed"])
def test_an_interval_covers_what_it_says(kind, count):
    assert 0.925 <= coverage(kind, count) <= 0.985  # Two thousand draws are known to a percent.


@pytest.mark.parametrize(
    ("count", "told"), [(3, 0.88), (5, 0.88), (10, 0.91), (20, 0.93), (100, 0.95)]
)
def test_of_very_skewed_values_it_covers_what_is_told(count, told):
    assert coverage("very skewed", count) == pytest.approx(told, abs=0.025)


def of_means(values, generator, *, replicates=1000):
    """The interval of each row's mean, over resamples of its values."""
    count = values.shape[1]
    weights = generator.multinomial(count, np.full(count, 1 / count), size=replicates) / count
    return [
        resampled_interval(float(row.mean()), drawn, units=count)
        for row, drawn in zip(values, values @ weights.T, strict=True)
    ]


@pytest.mark.parametrize("count", [8, 16, 64, 256])
@pytest.mark.parametrize("kind", ["normal", "t3", "skewed", "very skewed"])
def test_an_interval_over_resamples_covers_what_it_says(kind, count):
    make, mean = KINDS[kind]
    generator = np.random.default_rng(count)
    low, high = np.array(of_means(make(generator, (1000, count)), generator)).T
    covered = float(((low <= mean) & (mean <= high)).mean())
    told = {8: 0.9, 16: 0.93}.get(count) if kind == "very skewed" else None
    assert covered == pytest.approx(told, abs=0.025) if told else 0.925 <= covered <= 0.985


def test_an_interval_over_resamples_covers_a_ratio_of_sums():
    generator, held = np.random.default_rng(3), 0
    for _ in range(500):
        below = generator.lognormal(0, 1, 20)
        above = below * generator.uniform(0.2, 0.6, 20)
        counts = generator.multinomial(20, np.full(20, 1 / 20), size=400)
        ends = resampled_interval(
            above.sum() / below.sum(), (counts @ above) / (counts @ below), units=20
        )
        held += ends[0] <= 0.4 <= ends[1]
    assert 0.92 <= held / 500 <= 0.98


def test_of_a_mean_both_ways_give_one_interval_and_broken_resamples_are_left_out():
    generator = np.random.default_rng(4)
    values = generator.lognormal(0, 1, (1, 12))
    (found,) = of_means(values, generator, replicates=200_000)
    assert found == pytest.approx(mean_interval(values[0]), rel=0.01)
    some = np.array([1.0, 2.0, 4.0])
    broken = np.array([1.0, np.nan, 2.0, np.inf, 4.0])
    assert resampled_interval(2.0, some, units=9) == resampled_interval(2.0, broken, units=9)
    assert resampled_interval(2.0, np.full(9, 2.0), units=9) == (2.0, 2.0)


def test_resamples_of_few_values_would_not():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        values = rng.standard_normal(FEWEST)
        low, high = percentiles(rng.choice(values, (400, FEWEST)).mean(axis=1))
        held += low <= 0 <= high
    assert held / 400 < 0.8


def test_few_values_have_no_interval_and_equal_ones_no_width():
    assert mean_interval([]) is None
    assert mean_interval([0.1, 0.2]) is None
    assert mean_interval([0.1, 0.1, 0.1]) == pytest.approx((0.1, 0.1))


def test_even_values_have_student_s_interval_and_skewed_ones_more_on_their_side():
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    whole = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx(whole)
    skewed = np.array([0.0, 0.1, 0.2, 0.3, 4.0])
    low, high = mean_interval(skewed)
    plain = stats.t.interval(0.95, 4, skewed.mean(), stats.sem(skewed))
    assert low == pytest.approx(plain[0])
    assert high > plain[1]
    assert mean_interval(-skewed) == pytest.approx((-high, -low))
    assert mean_interval(skewed + 1.0) == pytest.approx((low + 1.0, high + 1.0))


def test_the_jackknife_of_a_mean_is_the_interval_of_the_mean():
    values = np.array([0.3, 0.1, 0.5, 0.2])
    left_out = [np.delete(values, i).mean() for i in range(4)]
    found = jackknife_interval(float(values.mean()), left_out)
    assert found == pytest.approx(mean_interval(values))


def test_the_jackknife_covers_a_ratio():
    rng, held = np.random.default_rng(1), 0
    for _ in range(600):
        above, below = rng.normal(1.0, 0.2, 5), rng.normal(2.0, 0.2, 5)
        left_out = [np.delete(above, i).mean() / np.delete(below, i).mean() for i in range(5)]
        low, high = jackknife_interval(above.mean() / below.mean(), left_out)
        held += low <= 0.5 <= high
    assert 0.92 <= held / 600 <= 0.99


def test_what_is_not_finite_has_no_interval():
    assert jackknife_interval(1.0, [0.5, float("nan"), 1.0]) is None
    assert jackknife_interval(1.0, [0.5, 1.0]) is None


def test_how_many_more_seeds_would_decide():
    values = np.array([0.3, -0.1, 0.2])
    more = seeds_to_decide(values)
    spread, mean = values.std(ddof=1), values.mean()
    for count, decides in ((3 + more, True), (3 + more - 1, False)):
        half = stats.t.ppf(0.975, count - 1) * spread / np.sqrt(count)
        assert bool(half < mean) is decides
    assert seeds_to_decide([0.1, -0.1, 0.0]) is None
