"""Joint gains against their definitions in gradient space, worked out the slow way."""

import itertools

import numpy as np
import pytest

from laboratory.gains import (
    additive_gain,
    agreement,
    coupled_gain,
    determinant,
    held_out_gain,
    line_gain,
    represented,
)
from layerwise.errors import BadInputError
from layerwise.signals.gain import pulls

WIDTHS = (3, 8, 20, 5)


def planted(seed=0, examples=9, mean=0.3):
    """Per-example gradients of four blocks, and their Gram matrices."""
    rng = np.random.default_rng(seed)
    gradients = [rng.normal(size=(examples, d)) * rng.uniform(0.5, 2.0) + mean for d in WIDTHS]
    return gradients, np.stack([g @ g.T for g in gradients])


def slow_gain(gradients, rows, damping):
    """1/2 g^T (F + lambda I)^-1 g from explicit gradients, F formed example by example."""
    n = len(gradients[0])
    ridge = damping * np.mean([sum(float(row @ row) for row in g) / n for g in gradients])
    joined = np.concatenate([gradients[r] for r in rows], axis=1)
    fisher = sum(np.outer(row, row) for row in joined) / n
    mean = joined.mean(axis=0)
    return 0.5 * mean @ np.linalg.solve(fisher + ridge * np.eye(mean.size), mean)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rows", [(0,), (2, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("damping", [0.01, 0.1, 3.0])
def test_the_coupled_gain_is_one_step_of_all_blocks(seed, rows, damping):
    gradients, gram = planted(seed)
    slow = slow_gain(gradients, rows, damping)
    assert coupled_gain(gram, rows, damping=damping) == pytest.approx(slow, rel=1e-9)
    alone = sum(slow_gain(gradients, (row,), damping) for row in rows)
    assert additive_gain(gram, rows, damping=damping) == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_further_block_never_lowers_the_coupled_gain(seed):
    _, gram = planted(seed, mean=0.0)
    ladder = [coupled_gain(gram, tuple(range(k)), damping=0.1) for k in range(5)]
    assert ladder[0] == 0.0
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(ladder))


def test_blocks_are_coupled_by_the_examples_that_they_serve():
    rng = np.random.default_rng(3)
    low, high = np.zeros((6, 4)), np.zeros((6, 4))
    low[:3], high[3:] = rng.normal(size=(2, 3, 4))
    apart, alike = np.stack([low @ low.T, high @ high.T]), np.stack([low @ low.T] * 2)
    for gram, parts in ((apart, 1.0), (alike, 0.9)):
        whole = coupled_gain(gram, (0, 1), damping=0.1)
        assert whole <= parts * additive_gain(gram, (0, 1), damping=0.1) * (1 + 1e-12)
    joint = additive_gain(apart, (0, 1), damping=0.1)
    assert coupled_gain(apart, (0, 1), damping=0.1) == pytest.approx(joint)
    # The second block cancels what in the first hides the common direction.
    hidden, helper = np.array([[1.0 + 9.0], [1.0 - 9.0]]), np.array([[9.0], [-9.0]])
    gram = np.stack([hidden @ hidden.T, helper @ helper.T])
    single = additive_gain(gram, (0, 1), damping=0.001)
    assert coupled_gain(gram, (0, 1), damping=0.001) > 2 * single


@pytest.mark.parametrize("rows", [(0,), (3, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("damping", [0.01, 1.0])
def test_the_line_gain_is_the_best_step_along_the_others_directions(rows, damping):
    gradients, gram = planted(mean=1.0)
    n = 9
    moved = np.zeros((n, 4))
    for row, g in enumerate(gradients):
        for i in range(n):
            others = np.delete(g, i, axis=0).mean(axis=0)
            moved[i, row] = g[i] @ others
    joint = moved[:, list(rows)].sum(axis=1)
    ridge = damping * np.mean(moved**2)
    steps = np.linspace(0.0, 2.0 / joint.mean(), 20_001)
    falls = steps * joint.mean() - steps**2 / 2 * (np.mean(joint**2) + ridge)
    assert line_gain(gram, rows, damping=damping) == pytest.approx(falls.max(), rel=1e-6)


@pytest.mark.parametrize("rows", [(2,), (0, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("damping", [0.01, 1.0])
def test_the_held_out_gain_is_a_step_of_the_others_on_each_part(rows, damping):
    gradients, gram = planted(1)
    joined = np.concatenate([gradients[r] for r in rows], axis=1)
    ridge = damping * np.mean([np.square(g).sum(axis=1).mean() for g in gradients])
    total = 0.0
    for fold in range(8):
        out = np.arange(9) % 8 == fold
        seen = joined[~out]
        fisher = seen.T @ seen / len(seen) + ridge * np.eye(joined.shape[1])
        step = np.linalg.solve(fisher, seen.mean(axis=0))
        total += (joined[out] @ step).sum()
    assert held_out_gain(gram, rows, damping=damping) == pytest.approx(total / 9, rel=1e-9)


def test_blocks_that_pull_alike_add_nothing_on_a_line_and_others_do():
    _, gram = planted(2, examples=200)
    twice = np.stack([gram[0], gram[0], gram[1]])
    alone = line_gain(twice, (0,), damping=1e-9)
    assert line_gain(twice, (0, 1), damping=1e-9) == pytest.approx(alone)
    assert line_gain(twice, (0, 2), damping=1e-9) > 1.05 * alone


def test_noise_alone_is_no_gain_on_held_out_examples():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(64, 500))
    signal = noise + 0.3
    gram = np.stack([noise @ noise.T, signal @ signal.T])
    silent, heard = (held_out_gain(gram, (row,), damping=1.0) for row in (0, 1))
    assert abs(silent) < 0.05 * heard


def test_blocks_agree_with_themselves_and_not_with_noise():
    rng = np.random.default_rng(4)
    one, other = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    gram = np.stack([one @ one.T, 7.0 * one @ one.T, other @ other.T, np.zeros((40, 40))])
    alike = agreement(gram)
    assert np.diag(alike) == pytest.approx(1.0)
    assert alike[0, 1] == pytest.approx(1.0)
    assert abs(alike[0, 2]) < 0.3
    assert alike[0, 3] == 0.0


def test_the_determinant_prefers_blocks_that_differ():
    rng = np.random.default_rng(5)
    one, other = rng.normal(size=(2, 60, 5)) + 0.5
    gram = np.stack([one @ one.T, one @ one.T, other @ other.T])
    assert determinant(gram, (0, 2), damping=0.1) > determinant(gram, (0, 1), damping=0.1)
    assert represented(gram, (0, 2)) > represented(gram, (0, 1))


def test_the_determinant_of_one_block_is_the_log_of_its_gain():
    _, gram = planted(6)
    gains = pulls(gram).mean(axis=0)
    assert determinant(gram, (1,), damping=1e-9) == pytest.approx(np.log(gains[1]), abs=1e-6)


def test_no_gradient_is_no_gain():
    nothing = np.zeros((3, 5, 5))
    assert line_gain(nothing, (0, 1), damping=0.1) == 0.0
    assert held_out_gain(nothing, (0, 1), damping=0.1) == 0.0
    assert represented(nothing, (0,)) == 0.0
    assert np.isfinite(determinant(nothing, (0, 1), damping=0.1))


def test_one_example_holds_nothing_out():
    gram = np.ones((2, 1, 1))
    assert held_out_gain(gram, (0,), damping=0.1) == 0.0
    assert line_gain(gram, (0,), damping=0.1) == 0.0


@pytest.mark.parametrize(
    "gain", [coupled_gain, additive_gain, line_gain, held_out_gain, determinant]
)
@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan")])
def test_a_damping_that_is_none_is_refused(gain, damping):
    with pytest.raises(BadInputError, match=r"damping: '.*'; expected a number above 0"):
        gain(planted()[1], (0,), damping=damping)
