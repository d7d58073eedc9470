"""Distances of vectors, by hand and by their bounds."""

import numpy as np
import pytest

from layerwise.distance.metrics import coherence, cosine, pearson, projected
from layerwise.errors import BadInputError

X = np.array([3.0, 4.0, 0.0])


@pytest.mark.parametrize(
    ("other", "expected"),
    [([6.0, 8.0, 0.0], 0.0), ([-3.0, -4.0, 0.0], 2.0), ([0.0, 0.0, 2.0], 1.0), ([1.0, 0, 0], 0.4)],
)
def test_cosine_by_hand(other, expected):
    assert cosine(X, np.array(other)) == pytest.approx(expected, abs=1e-15)
    assert cosine(np.array(other), X) == pytest.approx(expected, abs=1e-15)


def test_small_angles_keep_their_digits():
    turned = np.array([3.0 - 4e-9, 4.0 + 3e-9, 0.0])
    assert cosine(X, turned) == pytest.approx(0.5e-18, rel=1e-3)


def test_a_zero_mean_has_no_direction():
    with pytest.raises(BadInputError, match="without a direction: 'a mean of zero'"):
        cosine(X, np.zeros(3))


def test_pearson_ignores_offset_and_scale():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 50))
    assert pearson(x, y) == pytest.approx(1 - np.corrcoef(x, y)[0, 1], abs=1e-12)
    assert pearson(x, 3 * x + 7) == pytest.approx(0.0, abs=1e-12)
    assert cosine(x, 3 * x + 7) > 0.1


def test_pearson_of_equal_coordinates_is_refused():
    with pytest.raises(BadInputError, match="the same in all coordinates"):
        pearson(X, np.full(3, 0.1))


def test_projections_keep_angles_on_average_and_are_fixed_by_the_seed():
    random = np.random.default_rng(1)
    x, y = random.standard_normal((2, 300))
    found = [
        cosine(projected(x, width=128, seed=seed), projected(y, width=128, seed=seed))
        for seed in range(40)
    ]
    assert np.mean(found) == pytest.approx(cosine(x, y), abs=4 * 0.09 / np.sqrt(40))
    assert np.std(found) == pytest.approx(1 / np.sqrt(128), rel=0.4)
    assert len(set(found)) == 40
    assert np.array_equal(projected(x, width=32, seed=3), projected(x, width=32, seed=3))
    lengths = [np.linalg.norm(projected(x, width=128, seed=s)) for s in range(40)]
    assert np.mean(np.square(lengths)) == pytest.approx(x @ x, rel=0.1)


def test_projection_is_linear_so_means_may_be_projected_for_rows():
    rows = np.random.default_rng(2).standard_normal((9, 40))
    one = np.mean([projected(row, width=32, seed=5) for row in rows], axis=0)
    assert projected(rows.mean(0), width=32, seed=5) == pytest.approx(one, abs=1e-12)


def test_coherence_leaves_out_what_never_varies():
    mean, deviation = np.array([2.0, -3.0, 0.0, 5.0]), np.array([1.0, 2.0, 0.0, 0.0])
    assert coherence(mean, deviation) == pytest.approx((2.0 + 1.5) / 2)
    with pytest.raises(BadInputError, match="the same for every example"):
        coherence(mean, np.zeros(4))
