"""The coupled gain against its definition in gradient space, solved the slow way."""

import numpy as np
import pytest

from layerwise.signals.gain import additive_gain, coupled_gain, coupling


def slow_gain(gradients, rows, damping):
    """1/2 g^T (F + lambda I)^-1 g from explicit gradients, F formed example by example."""
    n = gradients[0].shape[0]
    ridge = damping * np.mean([sum(float(row @ row) for row in g) / n for g in gradients])
    joined = np.concatenate([gradients[r] for r in rows], axis=1)
    fisher = sum(np.outer(row, row) for row in joined) / n
    mean = joined.mean(axis=0)
    return 0.5 * mean @ np.linalg.solve(fisher + ridge * np.eye(mean.size), mean)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [(0,), (2, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("damping", [0.01, 0.1, 3.0])
def test_the_gain_in_example_space_is_the_gain_in_gradient_space(seed, rows, damping):
    rng = np.random.default_rng(seed)
    widths = (3, 8, 20, 5)
    gradients = [rng.normal(size=(7, d)) * rng.uniform(0.1, 10.0) + 0.3 for d in widths]
    gram = np.stack([g @ g.T for g in gradients])
    assert coupled_gain(gram, rows, damping=damping) == pytest.approx(
        slow_gain(gradients, rows, damping), rel=1e-9
    )
    singles = [slow_gain(gradients, (r,), damping) for r in rows]
    assert additive_gain(gram, rows, damping=damping) == pytest.approx(sum(singles), rel=1e-9)
    assert coupling(gram, rows, damping=damping) == pytest.approx(
        1.0 - slow_gain(gradients, rows, damping) / sum(singles), abs=1e-9
    )
