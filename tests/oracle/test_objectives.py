"""Losses and spans against slow versions in NumPy that were written from the papers alone."""

import itertools

import numpy as np
import pytest
import torch

from layerwise.objectives.barlow_twins import cross_correlation_loss
from layerwise.objectives.simcse import contrast
from layerwise.objectives.spans import spans


@pytest.fixture(params=[(3, 5), (8, 4), (30, 17)], ids=str)
def pair(request):
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, *request.param)) * 3 + 1
    return first.astype(np.float32), second.astype(np.float32)


def slow_barlow_twins(first, second, weight=5e-3, epsilon=1e-5):
    """Zbontar et al. (2021), equations 1 and 2, entry by entry in float64."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    n, d = first.shape
    total = 0.0
    for i, j in itertools.product(range(d), repeat=2):
        a, b = first[:, i], second[:, j]
        a = (a - a.sum() / n) / np.sqrt(((a - a.sum() / n) ** 2).sum() / n + epsilon)
        b = (b - b.sum() / n) / np.sqrt(((b - b.sum() / n) ** 2).sum() / n + epsilon)
        c = sum(x * y for x, y in zip(a, b, strict=True)) / n
        total += (1 - c) ** 2 if i == j else weight * c**2
    return total


def test_barlow_twins(pair):
    found = cross_correlation_loss(*map(torch.from_numpy, pair)).item()
    assert found == pytest.approx(slow_barlow_twins(*pair), rel=1e-5)


def test_the_gradient_of_barlow_twins(pair):
    first, second = pair
    variable = torch.from_numpy(first).double().requires_grad_()
    cross_correlation_loss(variable, torch.from_numpy(second).double()).backward()
    step = 1e-6
    for i, j in [(0, 0), (1, 3), (2, 2)]:
        ends = []
        for sign in (1, -1):
            moved = first.astype(np.float64)
            moved[i, j] += sign * step
            ends.append(slow_barlow_twins(moved, second))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert variable.grad[i, j].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_simcse(pair):
    first, second = (view.astype(np.float64) for view in pair)
    n = len(first)
    cosine = np.array(
        [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in second] for a in first]
    )
    scores = np.exp(cosine / 0.05)
    rows = [-np.log(scores[i, i] / scores[i].sum()) for i in range(n)]
    columns = [-np.log(scores[i, i] / scores[:, i].sum()) for i in range(n)]
    found = contrast(*map(torch.from_numpy, pair))
    np.testing.assert_allclose(found.numpy(), [*rows, *columns], rtol=2e-4, atol=2e-6)


def layouts(tokens):
    """Every set of positions that `spans` may hide: runs that do not touch, by trying them all."""
    hidden = max(1, round(0.15 * tokens))
    count = max(1, round(hidden / 3))
    found = []
    for chosen in itertools.combinations(range(tokens), hidden):
        runs = 1 + sum(b - a > 1 for a, b in itertools.pairwise(chosen))
        if runs == count:
            found.append(chosen)
    return found


@pytest.mark.parametrize("tokens", [1, 2, 7, 12, 24, 30])
def test_every_layout_of_spans_is_as_likely_as_any_other(tokens):
    known = dict.fromkeys(layouts(tokens), 0)
    draws = max(300, 30 * len(known))
    for i in range(draws):
        known[tuple(p for span in spans(tokens, seed=3, index=i) for p in span)] += 1
    expected = draws / len(known)
    chi = sum((count - expected) ** 2 / expected for count in known.values())
    freedom = len(known) - 1
    # Mean and standard deviation of chi squared are k and sqrt(2 k): five of them above.
    assert chi <= freedom + 5 * np.sqrt(2 * freedom)
