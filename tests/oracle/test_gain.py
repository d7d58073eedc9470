"""The gain of a block against its definition in gradient space, solved the slow way."""

import numpy as np
import pytest

from layerwise.signals.gain import single_gains


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("damping", [0.01, 0.1, 3.0])
def test_the_gain_in_example_space_is_the_gain_in_gradient_space(seed, damping):
    """1/2 g^T (F + lambda I)^-1 g from explicit gradients, F formed example by example."""
    rng = np.random.default_rng(seed)
    gradients = [rng.normal(size=(7, d)) * rng.uniform(0.1, 10.0) + 0.3 for d in (3, 8, 20, 5)]
    ridge = damping * np.mean([sum(float(row @ row) for row in g) / 7 for g in gradients])
    slow = []
    for g in gradients:
        fisher = sum(np.outer(row, row) for row in g) / 7
        mean = g.mean(axis=0)
        slow.append(0.5 * mean @ np.linalg.solve(fisher + ridge * np.eye(mean.size), mean))
    gram = np.stack([g @ g.T for g in gradients])
    assert single_gains(gram, damping=damping) == pytest.approx(slow, rel=1e-9)
