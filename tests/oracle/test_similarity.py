"""The four measures held against slow versions written from their definitions."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import spearmanr

from layerwise.signals.similarity import (
    cka_of,
    held_out,
    represent,
    rsa_of,
    shared_pca_of,
    unrotated,
)
from support.profiles import procrustes

SHAPES = [(24, 60), (24, 25), (24, 24), (24, 23), (60, 9)]
KINDS = ["full", "rank 5", "decaying", "mostly mean", "rank 5, other rows"]


def pair(shape, kind, share):
    """Two states that differ by `share` of their spread."""
    generator = np.random.default_rng([*shape, KINDS.index(kind)])
    n, p = shape
    x = generator.standard_normal(shape)
    if kind.startswith("rank 5"):
        x = generator.standard_normal((n, 5)) @ generator.standard_normal((5, p))
    if kind == "decaying":
        u, s, v = np.linalg.svd(x, full_matrices=False)
        x = u * np.logspace(0, -7, len(s)) @ v
    if kind == "mostly mean":  # 99.8 % of the energy
        x = x + 22.0 * generator.standard_normal(p)
    spread = (x - x.mean(0)).std()
    if kind == "rank 5":  # the difference stays in the same rows
        return x, x * (1.0 + share * generator.standard_normal((n, 1)))
    return x, x + share * spread * generator.standard_normal(shape)


def normalised(x):
    x = x.astype(np.longdouble)
    x = x - x.mean(0)
    return x / np.sqrt((x * x).sum())


def slow_procrustes(x, y):
    """||X R - Y|| in extended precision, with scipy's rotation made orthogonal to that precision.

    The distance is at its minimum over rotations, so the rotation's own error enters squared.
    """
    x, y = normalised(x), normalised(y)
    turn = orthogonal_procrustes(x.astype(float), y.astype(float))[0].astype(np.longdouble)
    for _ in range(3):
        turn = 1.5 * turn - 0.5 * turn @ (turn.T @ turn)
    return float(np.sqrt(((x @ turn - y) ** 2).sum()))


def slow_cka(x, y):
    x, y = normalised(x), normalised(y)
    size = [np.sqrt(((a.T @ b) ** 2).sum()) for a, b in ((x, x), (y, y))]
    return float(1 - ((x.T @ y) ** 2).sum() / (size[0] * size[1]))


def slow_rsa(x, y):
    above = np.triu_indices(len(x), 1)
    first, second = (1 - np.corrcoef(np.asarray(normalised(z), float))[above] for z in (x, y))
    return 1 - spearmanr(first, second).statistic


def slow_shared_pca(x, y, components):
    both = np.concatenate([x, y])
    _, _, axes = np.linalg.svd(both - both.mean(0), full_matrices=False)
    return slow_cka(x @ axes[:components].T, y @ axes[:components].T)


def slow_under(fit, shown, kept):
    """The distance of `shown` under the p x p rotation that `fit` gives in `kept` components."""
    x, y = (normalised(rows).astype(float) for rows in fit)
    axes = np.linalg.svd(np.concatenate([x, y]), full_matrices=False)[2][:kept].T
    inside = axes @ orthogonal_procrustes(x @ axes, y @ axes)[0] @ axes.T
    turn = inside + np.eye(len(axes)) - axes @ axes.T
    assert np.allclose(turn @ turn.T, np.eye(len(axes)), atol=1e-9)
    x, y = (normalised(rows).astype(float) for rows in shown)
    return np.linalg.norm(x @ turn - y)


@pytest.mark.parametrize("shape", [(24, 60), (25, 24), (60, 9), (290, 100)], ids=str)
@pytest.mark.parametrize("share", [1.0, 0.03])
def test_held_out_and_unrotated(shape, share):
    x, y = pair(shape, "full", share)
    half = np.random.default_rng(1).permutation(len(x)) < len(x) // 2
    sides = [(x[rows], y[rows]) for rows in (half, ~half)]
    kept = min(len(x) // 2 // 2, shape[1])
    expected = [slow_under(*both, kept) for both in (sides, sides[::-1])]
    assert held_out(x, y, half) == pytest.approx(np.mean(expected), rel=1e-8)
    plain = np.linalg.norm((normalised(x) - normalised(y)).astype(float))
    assert unrotated(represent(x), represent(y)) == pytest.approx(plain, rel=1e-10)


@pytest.mark.parametrize("rows", [64, 290, 1000])
def test_noise_is_seen_held_out_whatever_the_number_of_rows_and_a_rotation_is_none(rows):
    """Null: a rotation of few dimensions is 0; noise is its own size where Procrustes fits it."""
    generator, width = np.random.default_rng(rows), 256
    half = np.arange(rows) % 2 == 0
    x = generator.standard_normal((rows, width))
    y = x + 0.5 * generator.standard_normal(x.shape)
    true = np.sqrt(2 - 2 / np.sqrt(1.25))
    assert held_out(x, y, half) == pytest.approx(true, rel=0.2)
    if rows <= width:
        assert procrustes(x, y) < 0.5 * true
    low = x[:, :8] @ generator.standard_normal((8, width))
    turned = low @ np.linalg.qr(generator.standard_normal((width, width)))[0]
    assert max(procrustes(low, turned), held_out(low, turned, half)) < 1e-7
    assert unrotated(represent(low), represent(turned)) > 1.0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_procrustes_keeps_eight_digits_of_a_difference_of_three_percent(shape, kind):
    x, y = pair(shape, kind, 0.03)
    assert procrustes(x, y) == pytest.approx(slow_procrustes(x, y), rel=1e-8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [1.0, 1e-2, 1e-4, 1e-6])
def test_procrustes_keeps_its_digits_at_any_size(shape, share):
    x, y = pair(shape, "full", share)
    assert procrustes(x, y) == pytest.approx(slow_procrustes(x, y), rel=1e-8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.03, 1.0])
def test_cka(shape, kind, share):
    x, y = pair(shape, kind, share)
    assert cka_of(represent(x), represent(y)) == pytest.approx(slow_cka(x, y), abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["full", "mostly mean"])
def test_rsa(shape, kind):
    x, y = pair(shape, kind, 0.3)
    assert rsa_of(represent(x), represent(y)) == pytest.approx(slow_rsa(x, y), abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("components", [3, 256])
def test_shared_pca(shape, components):
    x, y = pair(shape, "full", 0.3)
    kept = min(components, shape[0] - 1, shape[1])
    found = shared_pca_of(represent(x), represent(y), components=components)
    assert found == pytest.approx(slow_shared_pca(x, y, kept), abs=1e-10)
