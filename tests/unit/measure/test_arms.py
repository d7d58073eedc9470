"""Arms at one budget."""

from dataclasses import replace

import pytest

from layerwise.errors import PlacementError, UnknownNameError
from layerwise.measure.arms import (
    ALL,
    arms_of,
    bounds,
    budget_of,
    known_arms,
    refuse_unknown,
    size_of,
)
from layerwise.measure.scores import SCORES
from layerwise.placement import POLICIES
from layerwise.placement.place import choose, place


def parameters(placement, card):
    """What the adapters of `placement` hold, module by module; blocks of a card have one size."""
    unit = {
        name: layer.adapter_parameters / card.capture.rank / len(layer.modules)
        for layer in card.layers
        for name in layer.modules
    }
    return round(sum(unit[name] * placement.rank_of(name) for name in placement.modules))


@pytest.fixture
def subject(seen):
    return seen()


def on(subject, card):
    return replace(subject, card=card)


def test_every_policy_every_score_and_what_they_are_held_against_are_arms():
    known = known_arms()
    assert known[0] == "recommended"
    assert set(POLICIES) - set(known) == set()
    assert set(SCORES) <= set(known)
    assert {"low-rank", "all", "random"} <= set(known)
    assert bounds() == ("balanced", "cost")
    assert set(bounds()) <= set(known)


def test_the_advice_within_a_goal_is_an_arm_where_that_can_be_met(small_card, subject):
    card = small_card(12)
    size = size_of(card, layers=3, rank=8, draws=0)
    advised, balanced, cost = arms_of(on(subject, card), size, ["balanced", "cost"])
    assert advised.placement.blocks == place(card, layers=3).blocks
    assert balanced.placement.blocks == place(card, layers=3, goal="balanced").blocks
    assert balanced.kind == "policy"
    assert "no choice of 3 blocks takes 0.50 of a step" in cost.failed


def test_without_timings_there_is_the_advice_and_no_goal(small_card, subject):
    card = small_card(12, backward_seconds=None)
    advised, balanced = arms_of(on(subject, card), size_of(card, layers=3, rank=8), ["balanced"])
    assert advised.failed is None
    assert balanced.failed == "goal balanced not applied: the cost is unknown"


def test_all_arms_but_all_have_adapters_of_one_size(subject):
    size = size_of(subject.card, layers=1, rank=None, draws=3)
    # Whether a model this small can meet a goal is up to the clock.
    arms = arms_of(subject, size, [name for name in known_arms() if name not in bounds()])
    budget = budget_of(subject.card, size)
    assert [arm.failed for arm in arms] == [None] * len(arms)
    assert {arm.placement.adapter_parameters for arm in arms if arm.equal} == {budget}
    (everywhere,) = (arm for arm in arms if not arm.equal)
    assert everywhere.name == ALL
    assert everywhere.placement.adapter_parameters == 2 * budget
    assert sum(arm.kind == "random" for arm in arms) == 3
    assert arms[0].kind == "recommended"


@pytest.mark.parametrize(
    ("blocks", "layers", "rank"), [(12, 5, 8), (30, 5, 8), (12, 1, 4), (7, 3, 2)]
)
def test_low_rank_spreads_the_budget_over_all_blocks(small_card, subject, blocks, layers, rank):
    card = small_card(blocks)
    size = size_of(card, layers=layers, rank=rank, draws=0)
    (_, arm) = arms_of(on(subject, card), size, ["low-rank"])
    ranks = [arm.placement.rank_of(name) for name in arm.placement.modules]
    assert arm.placement.adapter_parameters == budget_of(card, size)
    assert parameters(arm.placement, card) == budget_of(card, size)
    assert max(ranks) - min(ranks) <= 1
    assert len(arm.placement.blocks) == min(blocks, layers * rank)


def test_blocks_of_other_sizes_get_other_ranks(small_card, subject):
    sizes = [800] * 6 + [1600] * 6
    card = small_card(12, adapter_parameters=sizes)
    size = size_of(card, layers=4, rank=8, draws=0)
    budget = budget_of(card, size)
    arms = arms_of(on(subject, card), size, ["first", "last", "uniform"])
    for arm in arms:
        assert abs(arm.placement.adapter_parameters - budget) <= 0.05 * budget
    by_name = {arm.name: arm.placement.rank for arm in arms}
    assert by_name["first"] > by_name["last"]


def test_what_cannot_meet_the_budget_or_lacks_its_signal_is_left_out_with_the_reason(
    small_card, subject
):
    card = small_card(4, adapter_parameters=[8, 8, 8, 8000], attention_entropy=None)
    size = size_of(card, layers=1, rank=1, draws=0)
    arms = {arm.name: arm for arm in arms_of(on(subject, card), size, ["last", "ski", "first"])}
    assert "cannot be as large as the others'" in arms["last"].failed
    assert "needs attention_entropy" in arms["ski"].failed
    assert arms["first"].placement is not None


def test_a_card_that_recommends_nothing_is_refused(small_card, subject):
    (taken,) = choose(small_card(3), layers=1).rows
    card = small_card(3, adapter_parameters=[80000 if row == taken else 8 for row in range(3)])
    with pytest.raises(PlacementError, match="the card recommends nothing that can be measured"):
        arms_of(on(subject, card), size_of(card, layers=1, rank=1, draws=0), ["first"])


def test_random_draws_are_seeded_and_differ(small_card, subject):
    card = small_card(12)
    size = size_of(card, layers=4, rank=8, draws=4, seed=3)
    first, second = (
        [arm.placement.blocks for arm in arms_of(on(subject, card), size, ["random"])[1:]]
        for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 1


def test_numbers_and_names_that_cannot_be_are_refused(small_card):
    card = small_card(12)
    with pytest.raises(PlacementError, match="number of layers: '13'; expected 1 to 12"):
        size_of(card, layers=13, rank=None)
    with pytest.raises(PlacementError, match="LoRA rank: '0'; expected at least 1"):
        size_of(card, layers=None, rank=0)
    with pytest.raises(PlacementError, match="random draws: '-1'; expected at least 0"):
        size_of(card, layers=None, rank=None, draws=-1)
    with pytest.raises(UnknownNameError, match=r"unknown arm: 'unform'.*did you mean 'uniform'"):
        refuse_unknown(["all", "unform"])
    assert size_of(card, layers=None, rank=None).layers == 2
