"""What every placement policy promises."""

import numpy as np
import pytest

from layerwise.errors import PlacementError
from layerwise.placement import GOALS, POLICIES
from layerwise.placement.place import place

NAMES = ["top", "mid", "bottom", "uniform", "midpoints", "random", "first", "last"]
NAMES += ["ski", "ski-greedy", "gain", "gain-per-cost", "all"]


def test_the_policies_are_those_of_the_interface():
    assert list(POLICIES) == NAMES


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("stacks", [{"h": 1}, {"h": 2}, {"h": 9}, {"enc": 4, "dec": 5}])
def test_any_number_of_layers_is_met(small_card, name, stacks):
    card = small_card(stacks=stacks)
    rows = range(len(card.layers))
    for k in range(1, len(card.layers) + 1):
        chosen = POLICIES[name](card, k, rows=rows)
        assert len(chosen) == k
        assert list(chosen) == sorted(set(chosen))
        assert set(chosen) <= set(rows)
        assert all(type(row) is int for row in chosen)


@pytest.mark.parametrize("name", POLICIES)
def test_only_offered_rows_are_taken(small_card, name):
    card, rows = small_card(), (2, 3, 5, 8, 9)
    for k in (None, 1, 3, 5):
        assert set(POLICIES[name](card, k, rows=rows)) <= set(rows)


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_seed_is_the_same_choice(small_card, name):
    choose = POLICIES[name]
    for seed in range(3):
        first = choose(small_card(), 4, rows=range(12), seed=seed)
        np.random.default_rng(seed).normal()
        assert choose(small_card(), 4, rows=range(12), seed=seed) == first


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("k", [0, -1, 13])
def test_an_impossible_number_of_layers_is_refused(small_card, name, k):
    line = f"number of layers: '{k}'; expected 1 to 12, the blocks that can be adapted; try: "
    with pytest.raises(PlacementError, match=line + "--layers 2"):
        POLICIES[name](small_card(), k, rows=range(12))


@pytest.mark.parametrize("name", POLICIES)
def test_nothing_to_choose_from_is_refused(small_card, name):
    with pytest.raises(PlacementError, match="no block to choose from"):
        POLICIES[name](small_card(), None, rows=())


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("k", [1, 3])
def test_the_budget_is_met(small_card, name, goal, k):
    placement = place(
        small_card(parameters=8000, backward_seconds=2.0), policy=name, layers=k, goal=goal
    )
    assert len(placement.blocks) == k
    assert placement.cost.step_ratio <= GOALS[goal] + 1e-9
    assert placement.notes == () or name == "all"


@pytest.mark.parametrize("name", POLICIES)
def test_the_signals_scale_does_not_matter(small_card, name):
    plain = small_card()
    scaled = small_card(
        gram=plain.arrays["gram"] * 1e4,
        **{
            column: plain.column(column) * scale
            for column, scale in [
                ("residual_norm", 1e-3),
                ("attention_entropy", 8.0),
                ("activation_gradient", 1e-6),
                ("forward_seconds", 1e-2),
                ("backward_seconds", 1e-2),
            ]
        },
    )
    for k in (None, 1, 4):
        assert POLICIES[name](scaled, k, rows=range(12)) == POLICIES[name](plain, k, rows=range(12))
