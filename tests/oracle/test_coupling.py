"""Coupling by whole matrices: proposition 5.1 and theorem 5.2 of arXiv 2602.04019 as they stand."""

import numpy as np
import pytest

from layerwise.signals.coupling import DAMPINGS, block_coupling, set_coupling
from layerwise.signals.gain import flipped

BLOCKS, N, SIZE = 4, 6, 5


def gradients(seed=0, shared=0.0):
    """Per-example gradients, (l, n, d), of which blocks share a part."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(1, N, SIZE))
    own = rng.normal(size=(BLOCKS, N, SIZE))
    return (1 - shared) * own + shared * common + 0.3


def grams(g):
    return np.einsum("lnd,lmd->lnm", g, g)


def power(matrix, exponent):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def curvature(g, damping):
    """Return H, g and the slices of its blocks."""
    flat = np.concatenate(list(g), axis=1)
    scale = damping * np.mean([np.trace(b.T @ b) / N for b in g])
    spots = [slice(i * SIZE, (i + 1) * SIZE) for i in range(len(g))]
    return flat.T @ flat / N + scale * np.eye(flat.shape[1]), flat.mean(axis=0), spots


def best(h, g, keep):
    """Return the fall of the quadratic where only the coordinates in `keep` move."""
    return 0.5 * g[keep] @ np.linalg.solve(h[np.ix_(keep, keep)], g[keep])


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_blocks(damping, shared):
    g = gradients(shared=shared)
    h, whole, spots = curvature(g, damping)
    found = block_coupling(grams(g), damping)
    every = np.arange(len(whole))
    for row, spot in enumerate(spots):
        own = every[spot]
        rest = np.setdiff1d(every, own)
        hll, hlr, hrr = h[np.ix_(own, own)], h[np.ix_(own, rest)], h[np.ix_(rest, rest)]
        b = power(hll, -0.5) @ hlr @ power(hrr, -0.5)
        kappa = np.linalg.norm(b, 2) ** 2
        adjusted = whole[own] - hlr @ np.linalg.solve(hrr, whole[rest])
        w = np.sum((power(hll, -0.5) @ adjusted) ** 2)
        u = np.linalg.norm(power(hll, -0.5) @ whole[own])
        c = np.sqrt(kappa) * np.linalg.norm(power(hrr, -0.5) @ whole[rest])
        lost = best(h, whole, every) - best(h, whole, rest)
        told = [found.kappa, found.u, found.compensation, found.s, found.freezing, found.low]
        assert [x[row] for x in told] == pytest.approx(
            [kappa, u, c, max(u - c, 0.0), lost, 0.5 * w], rel=1e-6, abs=1e-12
        )
        assert found.high[row] == pytest.approx(0.5 * w / (1 - kappa), rel=1e-6)
        assert found.low[row] <= found.freezing[row] * (1 + 1e-9)
        assert found.freezing[row] <= found.high[row] * (1 + 1e-9)
        assert 0.5 * found.s[row] ** 2 <= found.freezing[row] * (1 + 1e-9)


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("rows", [(0, 1, 3), (2, 3), (1,)])
def test_sets(damping, rows):
    g = gradients(1, shared=0.5)
    h, whole, spots = curvature(g, damping)
    keep = np.concatenate([np.arange(len(whole))[spots[row]] for row in rows])
    d = np.zeros_like(h)
    for spot in spots:
        d[spot, spot] = h[spot, spot]
    half = power(d[np.ix_(keep, keep)], -0.5)
    rho = np.linalg.norm(half @ (h - d)[np.ix_(keep, keep)] @ half, 2)
    additive = sum(best(h, whole, np.arange(len(whole))[spots[row]]) for row in rows)
    found = set_coupling(grams(g), rows, damping)
    wanted = [rho, best(h, whole, keep), additive, additive / (1 + rho)]
    assert [found.rho, found.gain, found.additive, found.bound] == pytest.approx(wanted, rel=1e-6)
    assert found.bound <= found.gain * (1 + 1e-9)


def test_undamped_every_block_is_coupled_whole():
    g = gradients()[:, :, :]
    wide = np.concatenate([g, gradients(7)], axis=2)  # More parameters than examples.
    assert block_coupling(grams(wide), 1e-9).kappa == pytest.approx(1.0, abs=1e-5)
    assert block_coupling(grams(wide), 1e6).kappa == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(("shared", "leaves"), [(0.0, False), (0.9, True)])
def test_independent_gradients_do_not_leave_their_null(shared, leaves):
    """Of independent blocks, one in twenty is above all of nineteen draws; coupled ones are."""
    above = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        own, common = rng.normal(size=(BLOCKS, 12, 30)), rng.normal(size=(1, 12, 30))
        gram = grams((1 - shared) * own + shared * common)
        told = block_coupling(gram, 0.1).kappa.mean()
        null = [block_coupling(flipped(gram, seed, i), 0.1).kappa.mean() for i in range(19)]
        above += told > max(null)
    assert (above > 30) if leaves else (above <= 7)  # Binomial(40, 1/20): 8 or more in 1 of 1,000.


def test_flipped_signs_keep_each_block():
    gram = grams(gradients())
    other = flipped(gram, 0, 0)
    assert np.linalg.eigvalsh(other) == pytest.approx(np.linalg.eigvalsh(gram))
    assert not np.allclose(other, gram)
