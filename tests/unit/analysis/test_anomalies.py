from dataclasses import replace

import numpy as np
import pytest

from layerwise.analysis.concordance import fit_lines, standardise
from layerwise.analysis.record import Point


def points(at, slopes):
    return [
        Point(f"m{n}", "o", "cosine", "cka", float(x), float(y), 5)
        for n, (x, y) in enumerate(zip(at, slopes, strict=True))
    ]


@pytest.fixture
def scattered():
    drawn = np.random.default_rng(3)
    at = drawn.uniform(0.1, 1, 30)
    slopes = 0.2 + 0.4 * at + 0.05 * drawn.standard_normal(30)
    slopes[7] += 0.6
    return points(at, slopes)


def test_the_threshold_itself_is_no_anomaly(scattered):
    lines = fit_lines(scattered)
    residual = standardise(scattered, lines, threshold=1.0)[7].residual
    assert not standardise(scattered, lines, threshold=residual)[7].anomaly
    assert standardise(scattered, lines, threshold=residual * 0.999)[7].anomaly


def test_far_below_the_line_is_an_anomaly_too(scattered):
    low = [replace(p, slope=1 - p.slope) for p in scattered]
    found = standardise(low, fit_lines(low), threshold=3.0)
    assert [p.model for p in found if p.anomaly] == ["m7"]
    assert found[7].residual < -3


@pytest.mark.parametrize(
    ("at", "slopes", "reason"),
    [
        ([0, 1], [0.1, 0.2], "2 of at least 3 points"),
        ([1, 1, 1], [0.1, 0.2, 0.3], "all distances are the same"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "the points lie on the line"),
        ([0, 1, 2], [0.2, 0.2, 0.2], "the points lie on the line"),
        ([0, 1, 2], [0.0, 0.0, 0.0], "the points lie on the line"),
    ],
)
def test_without_a_deviation_there_is_no_residual_and_no_anomaly(at, slopes, reason):
    given = points(at, slopes)
    without, whole = fit_lines(given)
    assert (without.references, whole.references) == (False, True)
    assert whole.reason == reason
    assert whole.deviation is None
    assert standardise(given, [without, whole], threshold=0.1) == tuple(given)


def test_a_reference_is_in_one_line_and_an_anomaly_in_none_of_the_other(scattered):
    far = [*scattered, Point("ref", "o", "cosine", "cka", 0.0, 3.0, 5)]
    found = standardise(far, fit_lines(far), threshold=2.0)
    alone = standardise(scattered, fit_lines(scattered), threshold=2.0)
    assert [p.residual for p in found[:-1]] == [p.residual for p in alone]
    assert (found[-1].residual, found[-1].anomaly, found[-1].anomaly_with) == (None, False, True)
    assert found[7].anomaly
    assert found[7].residual_with != found[7].residual
