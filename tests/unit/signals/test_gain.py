"""What the coupled gain promises, on planted gradients."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.errors import BadInputError
from layerwise.signals.gain import (
    additive_gain,
    coupled_gain,
    coupling,
    damping_scale,
    single_gains,
)


def gram_of(*gradients):
    return np.stack([g @ g.T for g in gradients]).astype(np.float64)


def random_gram(seed, blocks=4, examples=6, width=5):
    rng = np.random.default_rng(seed)
    return gram_of(*(rng.normal(size=(examples, width)) for _ in range(blocks)))


def test_the_damping_scale_is_a_blocks_mean_squared_gradient_norm():
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=(5, 3)), rng.normal(size=(5, 7))]
    norms = [np.square(np.linalg.norm(g, axis=1)).mean() for g in gradients]
    assert damping_scale(gram_of(*gradients)) == pytest.approx(np.mean(norms))


def test_one_shared_gradient_has_the_closed_form():
    # n equal gradients of squared norm c: 1/2 c / (c + damping c).
    gram = np.full((1, 4, 4), 3.0)
    assert coupled_gain(gram, (0,), damping=0.5) == pytest.approx(0.5 / 1.5)


def test_no_rows_and_no_gradient_gain_nothing():
    assert coupled_gain(random_gram(0), ()) == 0.0
    silent = np.zeros((2, 3, 3))
    assert coupled_gain(silent, (0, 1)) == 0.0
    assert coupling(silent, (0, 1)) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(0.01, 10.0))
def test_the_scale_of_the_loss_and_the_order_of_examples_do_not_matter(seed, scale, damping):
    gram = random_gram(seed)
    gain = coupled_gain(gram, (0, 2), damping=damping)
    assert coupled_gain(gram * scale, (0, 2), damping=damping) == pytest.approx(gain, rel=1e-8)
    order = np.random.default_rng(seed).permutation(gram.shape[1])
    shuffled = gram[:, order][:, :, order]
    assert coupled_gain(shuffled, (0, 2), damping=damping) == pytest.approx(gain, rel=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_further_block_never_lowers_the_gain(seed):
    gram = random_gram(seed)
    ladder = [coupled_gain(gram, tuple(range(k))) for k in range(5)]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(ladder))


def test_more_damping_means_less_gain():
    gram = random_gram(1)
    gains = [coupled_gain(gram, (0, 1), damping=d) for d in (0.01, 0.1, 1.0, 10.0)]
    assert gains == sorted(gains, reverse=True)


def test_blocks_that_correct_the_same_error_are_coupled():
    gram = random_gram(2, blocks=1)
    assert coupling(np.concatenate([gram, gram]), (0, 1)) > 0.1


def test_blocks_that_serve_different_examples_are_not_coupled():
    rng = np.random.default_rng(3)
    low, high = np.zeros((6, 4)), np.zeros((6, 4))
    low[:3], high[3:] = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    assert coupling(gram_of(low, high), (0, 1)) == pytest.approx(0.0, abs=1e-12)


def test_blocks_that_need_each_other_have_negative_coupling():
    # The second block cancels what in the first hides the common direction.
    hidden = np.array([[1.0 + 9.0], [1.0 - 9.0]])
    helper = np.array([[9.0], [-9.0]])
    assert coupling(gram_of(hidden, helper), (0, 1), damping=0.001) < -1.0


def test_the_additive_gain_is_the_sum_of_single_ones():
    gram = random_gram(5)
    assert additive_gain(gram, (0, 3)) == pytest.approx(single_gains(gram)[[0, 3]].sum())
    assert single_gains(gram)[2] == pytest.approx(coupled_gain(gram, (2,)))


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan")])
def test_damping_must_be_positive(damping):
    with pytest.raises(BadInputError, match=r"damping: .*; expected a number above 0"):
        coupled_gain(random_gram(0), (0,), damping=damping)
