"""Each policy on a card whose answer is plain to see."""

from itertools import combinations

import numpy as np
import pytest

from layerwise.errors import PlacementError
from layerwise.placement import POLICIES
from layerwise.placement.cost import step_cost
from layerwise.placement.gain import distances, predicted_gain
from layerwise.placement.policy import default_size


def choose(card, name, k=None, *, rows=None, seed=0):
    return POLICIES[name](card, k, rows=rows or range(len(card.layers)), seed=seed)


NORMS = [5.0, 1.0, 4.0, 3.0, 2.0, 6.0]


@pytest.mark.parametrize(
    ("name", "k", "expected"),
    [
        ("top", 2, (0, 5)),
        ("top", 3, (0, 2, 5)),
        ("bottom", 2, (1, 4)),
        ("mid", 2, (2, 3)),
        ("mid", 3, (0, 2, 3)),
        ("mid", 4, (0, 2, 3, 4)),
        ("first", 2, (0, 1)),
        ("last", 2, (4, 5)),
        ("uniform", 1, (0,)),
        ("uniform", 2, (0, 5)),
        ("uniform", 3, (0, 3, 5)),
        ("midpoints", 1, (3,)),
        ("midpoints", 2, (1, 4)),
        ("midpoints", 6, (0, 1, 2, 3, 4, 5)),
        ("all", 6, (0, 1, 2, 3, 4, 5)),
        ("all", None, (0, 1, 2, 3, 4, 5)),
        ("all", 2, (0, 5)),
    ],
)
def test_the_answer(small_card, name, k, expected):
    assert choose(small_card(6, residual_norm=NORMS), name, k) == expected


def test_ties_go_to_the_lower_block(small_card):
    card = small_card(6, residual_norm=1.0)
    assert choose(card, "top", 2) == (0, 1)
    assert choose(card, "mid", 2) == (2, 3)
    assert choose(card, "bottom", 2) == (4, 5)


@pytest.mark.parametrize(("blocks", "size"), [(1, 1), (6, 1), (7, 2), (12, 2), (30, 5)])
def test_a_sixth_of_the_blocks_is_taken_unless_told(small_card, blocks, size):
    assert default_size(range(blocks)) == size
    assert len(choose(small_card(blocks), "top")) == size


def test_uniform_steps_differ_by_at_most_one(small_card):
    card = small_card(29)
    for k in range(2, 30):
        steps = np.diff(choose(card, "uniform", k))
        assert steps.max() - steps.min() <= 1
        assert choose(card, "uniform", k)[0] == 0
        assert choose(card, "uniform", k)[-1] == 28


@pytest.mark.parametrize("blocks", [1, 2, 7, 10])
def test_no_blocks_are_nearer_to_all_than_the_midpoints(small_card, blocks):
    card = small_card(blocks)
    for k in range(1, blocks + 1):
        every = combinations(range(blocks), k)
        nearest = min(distances(card, rows).mean() for rows in every)
        assert distances(card, choose(card, "midpoints", k)).mean() == pytest.approx(nearest)


def test_random_is_the_seeds_and_grows_by_adding(small_card):
    card = small_card(30)
    assert len({choose(card, "random", 5, seed=s) for s in range(10)}) > 5
    assert set(choose(card, "random", 5)) < set(choose(card, "random", 6))


def test_ski_greedy_gives_the_published_layers(small_card):
    entropy, gradient = [2.0] * 12, list(np.linspace(0.1, 1.0, 12))
    entropy[5] = 0.5
    card = small_card(12, attention_entropy=entropy, activation_gradient=gradient)
    assert choose(card, "ski-greedy") == (0, 1, 4, 5, 6)
    assert choose(card, "ski-greedy", 1) == (5,)
    assert choose(card, "ski-greedy", 3) == (4, 5, 6)


def test_ski_takes_peaks_with_their_neighbours_then_the_rest(small_card):
    # G is flat, so SKI falls where H rises: peaks at 2 (the higher) and 5.
    entropy = [4.0, 3.0, 1.0, 3.5, 3.8, 2.0]
    card = small_card(6, attention_entropy=entropy, activation_gradient=1.0)
    assert choose(card, "ski") == (1, 2, 3, 4, 5)
    assert choose(card, "ski", 1) == (2,)
    assert choose(card, "ski", 4) == (1, 2, 3, 5)
    assert choose(card, "ski", 6) == (0, 1, 2, 3, 4, 5)


def test_ski_without_a_peak_needs_a_number(small_card):
    card = small_card(4, attention_entropy=1.0, activation_gradient=1.0)
    with pytest.raises(PlacementError, match="finds no layer: SKI is the same in every block"):
        choose(card, "ski")
    assert choose(card, "ski", 2) == (0, 1)


def test_a_peak_of_one_stack_has_no_neighbour_in_the_other(small_card):
    entropy = [2.0, 2.0, 1.0, 3.0, 3.0, 3.0]
    stacks = {"encoder.block": 3, "decoder.block": 3}
    card = small_card(stacks=stacks, attention_entropy=entropy, activation_gradient=1.0)
    assert choose(card, "ski") == (1, 2)


def greedy(card, k, value):
    """The rows that a slow greedy choice takes, one after the other."""
    chosen = []
    for _ in range(k):
        left = [row for row in range(len(card.layers)) if row not in chosen]
        chosen.append(max(left, key=lambda row: value([*chosen, row])))
    return tuple(sorted(chosen))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_gain_goes_by_the_predictor_in_use(small_card, k):
    card = small_card(8)
    assert choose(card, "gain", k) == greedy(card, k, lambda rows: predicted_gain(card, rows))


def test_what_gain_takes_is_near_the_best_set(small_card):
    card = small_card(8)
    best = max(predicted_gain(card, rows) for rows in combinations(range(8), 3))
    assert predicted_gain(card, choose(card, "gain", 3)) >= (1.0 - 1.0 / np.e) * best


@pytest.mark.parametrize("k", [1, 2, 4])
def test_gain_per_cost_is_the_greedy_maximum_of_the_quotient(small_card, k):
    card = small_card(5, parameters=400)
    price = step_cost(card).seconds
    value = lambda rows: predicted_gain(card, rows) / price(rows)  # noqa: E731
    assert choose(card, "gain-per-cost", k) == greedy(card, k, value)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("top", "residual_norm"),
        ("mid", "residual_norm"),
        ("bottom", "residual_norm"),
        ("ski", "attention_entropy"),
        ("ski", "activation_gradient"),
        ("ski-greedy", "attention_entropy"),
    ],
)
def test_a_missing_column_is_named_with_its_reason(small_card, name, column):
    card = small_card(6, absent={column: "not for this model"}, **{column: None})
    line = rf"policy '{name}' needs {column}, which model.layers.0 lacks \(not for this model\)"
    with pytest.raises(PlacementError, match=line + "; try: --policy uniform"):
        choose(card, name, 2)


def test_a_column_missing_in_one_block_is_missing(small_card):
    entropy = [1.0, 2.0, None, 1.0]
    with pytest.raises(PlacementError, match=r"attention_entropy, which model.layers.2 lacks;"):
        choose(small_card(4, attention_entropy=entropy), "ski")


@pytest.mark.parametrize("name", ["gain", "gain-per-cost"])
def test_missing_gram_matrices_are_named(small_card, name):
    with pytest.raises(PlacementError, match="no prediction without the Gram matrices"):
        choose(small_card(6, gram=None), name, 2)


def test_gain_per_cost_needs_timings(small_card):
    with pytest.raises(PlacementError, match=r"no cost without timings: .*backward_seconds"):
        choose(small_card(6, backward_seconds=None), "gain-per-cost", 2)
