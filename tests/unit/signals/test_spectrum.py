"""Singular values of products that are never formed, and norms of dense weights."""

import numpy as np
import pytest

from layerwise.signals.spectrum import (
    TOLERANCE,
    effective_rank,
    energy_rank,
    product_singular_values,
    spectral_norm,
    stable_rank,
)


def factors(seed, *, experts=1, out=20, rank=4, inside=30):
    random = np.random.default_rng(seed)
    return random.standard_normal((experts, out, rank)), random.standard_normal(
        (experts, rank, inside)
    )


def dense(up, down):
    """All singular values of the formed product, the slow way."""
    values = [np.linalg.svd(b @ a, compute_uv=False) for b, a in zip(up, down, strict=True)]
    return np.sort(np.concatenate(values))[::-1]


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"rank": 1},
        {"out": 3, "rank": 8},
        {"inside": 2, "rank": 5},
        {"experts": 3},
        {"out": 200, "inside": 150, "rank": 64},
    ],
    ids=str,
)
def test_a_product_s_values_are_those_of_the_formed_product(sizes):
    up, down = factors(1, **sizes)
    found = product_singular_values(up, down)
    assert found == pytest.approx(dense(up, down)[: len(found)], rel=1e-10)
    assert np.all(np.diff(found) <= 0)
    assert len(found) <= up.shape[0] * up.shape[2]


def test_values_of_very_different_sizes_are_kept():
    """A Gram matrix would lose those below 1e-8 of the largest."""
    up, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 3)))
    down, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((50, 3)))
    scaled = up * np.array([1.0, 1e-5, 1e-10])
    found = product_singular_values(scaled[None], np.ascontiguousarray(down.T)[None])
    assert found == pytest.approx([1.0, 1e-5, 1e-10], rel=1e-4)


def test_a_zero_factor_makes_a_zero_product():
    up, down = factors(2)
    assert not product_singular_values(np.zeros_like(up), down).any()


@pytest.mark.parametrize("kind", ["gaussian", "decaying", "rotation", "steps", "one direction"])
@pytest.mark.parametrize("shape", [(150, 90), (90, 150), (80, 80), (30, 200)])
def test_a_spectral_norm_is_the_dense_one(kind, shape):
    random = np.random.default_rng(3)
    left, _ = np.linalg.qr(random.standard_normal((shape[0], min(shape))))
    right, _ = np.linalg.qr(random.standard_normal((shape[1], min(shape))))
    count = np.arange(min(shape))
    values = {
        "decaying": 0.9**count,
        "rotation": np.ones(len(count)),
        "steps": np.where(count < 5, 3.0, 1.0),
        "one direction": np.where(count < 1, 2.0, 0.0),
    }
    matrix = (
        random.standard_normal(shape) if kind == "gaussian" else (left * values[kind]) @ right.T
    )
    for dtype in (np.float32, np.float64):
        exact = np.linalg.svd(matrix.astype(dtype).astype(float), compute_uv=False)[0]
        assert spectral_norm(matrix.astype(dtype)[None]) == pytest.approx(exact, rel=TOLERANCE)


def test_of_several_matrices_the_largest_counts():
    matrices = np.random.default_rng(4).standard_normal((3, 90, 70))
    each = [spectral_norm(matrix[None]) for matrix in matrices]
    assert spectral_norm(matrices) == max(each)
    assert spectral_norm(matrices) == spectral_norm(matrices)


@pytest.mark.parametrize("size", [5, 100])
def test_a_weight_of_zeros_has_norm_zero(size):
    assert spectral_norm(np.zeros((1, size, size), dtype=np.float32)) == 0.0


def test_ranks_of_equal_and_of_single_values():
    equal, single = np.full(4, 2.5), np.array([3.0, 0.0, 0.0])
    assert (stable_rank(equal), stable_rank(single)) == (4.0, 1.0)
    assert effective_rank(equal) == pytest.approx(4.0)
    assert effective_rank(single) == 1.0
    assert [energy_rank(equal, share=s) for s in (0.25, 0.5, 0.75, 0.76, 0.99)] == [1, 2, 3, 4, 4]
    assert energy_rank(single, share=0.99) == 1


def test_nothing_has_no_rank():
    for nothing in (np.zeros(3), np.zeros(0)):
        assert stable_rank(nothing) == effective_rank(nothing) == 0.0
        assert energy_rank(nothing, share=0.9) == 0


def test_ranks_know_no_scale():
    values = np.array([5.0, 2.0, 1.0, 0.1])
    for scale in (1e-9, 1e6):
        assert stable_rank(scale * values) == pytest.approx(stable_rank(values))
        assert effective_rank(scale * values) == pytest.approx(effective_rank(values))
        assert energy_rank(scale * values, share=0.9) == energy_rank(values, share=0.9) == 2
