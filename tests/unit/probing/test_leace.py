"""Erasure against its definition, and random directions of the energy asked for."""

import numpy as np
import pytest
import torch

from layerwise.probing.leace import eraser_name, fit_eraser, random_directions


@pytest.fixture(scope="module")
def rows():
    """6,000 rows of 12 features with unequal variances, the member shifting one of them a mixture.

    So many that the covariance is hardly shrunk.
    """
    generator = np.random.default_rng(5)
    mix = np.diag(np.linspace(0.5, 3.0, 12)) + generator.normal(size=(12, 12), scale=0.2)
    members = np.repeat([0, 1], 3000)
    x = generator.normal(size=(6000, 12)) @ mix + np.outer(members, mix[4] + mix[7])
    return torch.from_numpy(x), torch.from_numpy(members)


def erased(fitted, x):
    return x - torch.outer((x - fitted.mean) @ fitted.reads, fitted.moves)


def shrunk(covariance, n):
    """The linear shrinkage of Bodnar, Gupta and Parolya (2014) towards the mean variance."""
    p, trace = len(covariance), np.trace(covariance)
    squared = np.square(covariance).sum()
    alpha = 1 - (trace**2 / n) / (squared - trace**2 / p)
    return alpha * covariance + (1 - alpha) * trace / p * np.eye(p)


def test_it_is_the_closed_form(rows):
    """I - Sigma^(1/2) u u^T Sigma^(-1/2), u along Sigma^(-1/2) Sigma_xz, by numpy alone."""
    x, members = (value.double().numpy() for value in rows)
    fitted = fit_eraser(*rows)
    centred = x - x.mean(0)
    values, basis = np.linalg.eigh(shrunk(centred.T @ centred / len(x), len(x)))
    root, inverse = (basis * values**p @ basis.T for p in (0.5, -0.5))
    u = inverse @ (centred.T @ (members - members.mean()))
    u /= np.linalg.norm(u)
    projection = np.outer(root @ u, inverse @ u)
    found = torch.outer(fitted.moves, fitted.reads).numpy()
    np.testing.assert_allclose(found, projection, atol=1e-10)
    assert fitted.energy == pytest.approx(np.square(centred @ projection.T).sum(1).mean())
    before_gap, gap = (
        float((r[rows[1] == 1].mean(0) - r[rows[1] == 0].mean(0)).norm())
        for r in (rows[0], erased(fitted, rows[0]))
    )
    # The covariance that the fit whitens by is shrunk, so that little is left, not nothing.
    assert gap < 0.01 * before_gap
    assert eraser_name().startswith("concept-erasure ")


def test_the_direction_points_from_a_to_b(rows):
    x, members = rows
    for sign in (members, 1 - members):
        fitted = fit_eraser(x, sign)
        assert float(fitted.reads @ (x[sign == 1].mean(0) - x[sign == 0].mean(0))) > 0.0


def test_distances_that_are_left(rows):
    x, members = rows
    fitted = fit_eraser(x, members)
    differences = x[:5] - x[5:10]
    expected = (erased(fitted, x[:5]) - erased(fitted, x[5:10])).norm(dim=1)
    torch.testing.assert_close(fitted.apart(differences), expected)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_random_directions_have_the_energy_asked_for(rows, share):
    x, _ = rows
    centred = x - x.mean(0)
    total = float(centred.square().sum(1).mean())
    generator = torch.Generator().manual_seed(3)
    found = random_directions(x, share * total, draws=16, generator=generator)
    torch.testing.assert_close(found.norm(dim=0), torch.ones(16, dtype=torch.float64))
    reached = (centred @ found).square().mean(0)
    torch.testing.assert_close(reached, torch.full((16,), share * total, dtype=torch.float64))
    again = torch.Generator().manual_seed(3)
    assert torch.equal(random_directions(x, share * total, draws=16, generator=again), found)
    # Sixteen directions, not one sixteen times.
    assert int(torch.linalg.matrix_rank(found, atol=1e-3)) > 6


def test_an_energy_that_no_direction_has_is_met_as_nearly_as_can_be(rows):
    x, _ = rows
    centred = x - x.mean(0)
    most = float(torch.linalg.eigvalsh(centred.T @ centred / len(x))[-1])
    found = random_directions(x, 10 * most, draws=4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        (centred @ found).square().mean(0),
        torch.full((4,), most, dtype=torch.float64),
        rtol=1e-5,
        atol=0.0,
    )


def test_nothing_to_erase_leaves_all_as_it_is():
    x = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    twice = torch.cat([x, x])
    fitted = fit_eraser(twice, torch.arange(2).repeat_interleave(40))
    assert fitted.energy == 0.0
    assert torch.equal(erased(fitted, x), x)
    none = random_directions(twice, fitted.energy, draws=3, generator=torch.Generator())
    assert torch.equal(none, torch.zeros(6, 3, dtype=torch.float64))


def test_fewer_rows_than_features():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(20, 50, dtype=torch.float64, generator=generator)
    x[10:, 3] += 4.0
    fitted = fit_eraser(x, torch.arange(2).repeat_interleave(10))
    assert fitted.energy > 0.0
    found = random_directions(x, fitted.energy, draws=5, generator=generator)
    reached = ((x - x.mean(0)) @ found).square().mean(0)
    torch.testing.assert_close(reached, torch.full((5,), fitted.energy, dtype=torch.float64))
