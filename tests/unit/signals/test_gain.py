"""What the gain of a block promises, on planted gradients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwise.errors import BadInputError
from layerwise.signals.gain import pulls, ridge, single_gains, step_gains


def gram_of(*gradients):
    return np.stack([g @ g.T for g in gradients]).astype(np.float64)


def random_gradients(seed, blocks=4, examples=6, width=5):
    return np.random.default_rng(seed).normal(size=(blocks, examples, width))


def test_the_ridge_is_damping_times_a_blocks_mean_squared_gradient_norm():
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=(5, 3)), rng.normal(size=(5, 7))]
    norms = [np.square(np.linalg.norm(g, axis=1)).mean() for g in gradients]
    assert ridge(gram_of(*gradients), 0.5) == pytest.approx(0.5 * np.mean(norms))


def test_one_shared_gradient_has_the_closed_form():
    # n equal gradients of squared norm c: 1/2 c / (c + damping c).
    assert single_gains(np.full((1, 4, 4), 3.0), damping=0.5) == pytest.approx([0.5 / 1.5])


def test_no_gradient_gains_nothing():
    assert single_gains(np.zeros((2, 3, 3))) == pytest.approx([0.0, 0.0])
    assert step_gains(np.ones((2, 3, 3)), 0.0) == pytest.approx([0.0, 0.0])


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(0.01, 10.0))
def test_the_scale_of_the_loss_and_the_order_of_examples_do_not_matter(seed, scale, damping):
    gram = gram_of(*random_gradients(seed))
    gains = single_gains(gram, damping=damping)
    assert single_gains(gram * scale, damping=damping) == pytest.approx(gains, rel=1e-8)
    order = np.random.default_rng(seed).permutation(gram.shape[1])
    shuffled = gram[:, order][:, :, order]
    assert single_gains(shuffled, damping=damping) == pytest.approx(gains, rel=1e-8)


def test_more_damping_means_less_gain():
    gram = gram_of(*random_gradients(1))
    gains = np.array([single_gains(gram, damping=d) for d in (0.01, 0.1, 1.0, 10.0)])
    assert (np.diff(gains, axis=0) < 0.0).all()


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan")])
def test_damping_must_be_positive(damping):
    with pytest.raises(BadInputError, match=r"damping: .*; expected a number above 0"):
        single_gains(gram_of(*random_gradients(0)), damping=damping)


def test_a_pull_is_along_the_mean_of_the_other_examples():
    gradients = random_gradients(2)
    slow = [[g[i] @ np.delete(g, i, axis=0).mean(axis=0) for g in gradients] for i in range(6)]
    np.testing.assert_allclose(pulls(gram_of(*gradients)), slow, rtol=1e-9)
    assert pulls(np.ones((2, 1, 1))) == pytest.approx(0.0)


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
    assert single_gains(gram_of(*gradients), damping=damping) == pytest.approx(slow, rel=1e-9)
