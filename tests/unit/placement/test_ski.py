"""Inflection layers on curves whose answer is plain to see."""

import numpy as np
import pytest

from layerwise.api.cards import place
from layerwise.errors import PlacementError
from layerwise.placement.ski import around, inflection_order, local_maxima, suppressed
from layerwise.signals.saturation import inflection

ONE = ["a"]


def maxima(*values, segments=None):
    return local_maxima(np.array(values, dtype=float), segments or ONE * len(values))


def test_ski_is_the_mean_of_saturation_and_suppression():
    entropy, gradient = np.array([2.0, 1.0, 0.0]), np.array([1.0, 4.0, 2.0])
    np.testing.assert_allclose(inflection(entropy, gradient), [0.375, 0.25, 0.75])


def test_ski_knows_no_units():
    entropy, gradient = np.array([2.0, 1.0, 0.5]), np.array([1.0, 4.0, 2.0])
    np.testing.assert_allclose(
        inflection(entropy * 7.0, gradient * 1e-6), inflection(entropy, gradient)
    )


def test_zero_signals_are_wholly_saturated_and_suppressed():
    np.testing.assert_array_equal(inflection(np.zeros(2), np.zeros(2)), [1.0, 1.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 1, 0), (1,)),
        ((1, 0, 1), (0, 2)),
        ((2, 1, 0), (0,)),
        ((0, 1, 2), (2,)),
        ((0, 2, 2, 0), (1,)),
        ((0, 2, 2, 2, 0), (2,)),
        ((2, 2, 1), (0,)),
        ((1, 2, 2), (1,)),
        ((0, 1, 1, 2), (3,)),
        ((3, 1, 1, 3), (0, 3)),
        ((1, 1, 1), ()),
        ((1,), (0,)),
        ((0, 3, 1, 2, 0), (1, 3)),
    ],
)
def test_local_maxima(values, expected):
    assert maxima(*values) == expected


def test_a_stack_ends_where_the_next_begins():
    segments = ["a", "a", "b", "b"]
    assert maxima(0, 1, 5, 0, segments=segments) == (1, 2)
    assert maxima(1, 1, 1, 0, segments=segments) == (2,)
    assert around([1], segments) == (1, 0)


def test_neighbours_stay_inside_and_come_nearest_first():
    assert around([0, 3], ONE * 4) == (0, 1, 3, 2)
    assert around([1, 2], ONE * 3) == (1, 0, 2)


def test_the_highest_peak_comes_first():
    values = np.array([0.1, 0.5, 0.0, 0.2, 0.9, 0.3])
    assert inflection_order(values, ONE * 6) == (4, 3, 5, 1, 0, 2)


def test_the_first_suppressed_block_is_the_one_nearest_the_input():
    entropy = np.array([3.0, 2.0, 1.0, 2.0])
    assert suppressed(entropy, np.array([1.0, 0.2, 0.1, 0.9])) == (2, 1)
    assert suppressed(entropy, np.array([1.0, 0.5, 0.4, 0.9])) == (2,)


def test_what_the_paper_sets_by_hand_can_be_set(small_card):
    entropy, gradient = np.full(9, 2.0), np.linspace(1.0, 0.3, 9)
    entropy[4] = 0.5
    card = small_card(9, attention_entropy=list(entropy), activation_gradient=list(gradient))

    def chosen(policy, **options):
        return [block.index for block in place(card, policy=policy, **options).blocks]

    assert chosen("ski") == [3, 4, 5, 7, 8]
    assert chosen("ski", ski_alpha=1.0) == [3, 4, 5]  # The gradient's end is no peak then.
    assert chosen("ski", ski_alpha=1.0, ski_reach=2) == [2, 3, 4, 5, 6]
    assert chosen("ski", ski_alpha=1.0, ski_reach=0) == [4]
    assert chosen("ski-greedy") == [3, 4, 5]  # No gradient is below a quarter of the largest.
    assert chosen("ski-greedy", ski_threshold=0.5) == [3, 4, 5, 6, 7]
    with pytest.raises(PlacementError, match="settings of inflection layers for another policy"):
        place(card, policy="top", ski_reach=2)
