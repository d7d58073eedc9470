"""Placements by what was measured on a like card."""

from dataclasses import replace

import pytest

from layerwise.api import cards as api
from layerwise.card.record import MeasuredRegime, Measurement
from layerwise.errors import BadInputError, PlacementError, SchemaError, UnknownNameError
from layerwise.placement.reference import transferred

RISING = [float(i) for i in range(12)]


def regime(name, improvement, step_ratio=0.9):
    return MeasuredRegime(name, (0, 1), improvement, 1.0, 10, step_ratio=step_ratio)


def measured(*regimes, size=3):
    return Measurement("loss", "causal-lm", "0" * 64, size, 8, 40, 3, regimes)


@pytest.fixture
def reference(small_card):
    """A card on which `top` did best, and cheap `last` next."""
    found = measured(
        regime("all", 0.9, 1.0),
        regime("eva", 0.8),
        regime("top", 0.5),
        regime("last", 0.4, 0.5),
        regime("uniform", 0.2, None),
    )
    return replace(small_card(residual_norm=RISING), measured=(found,))


@pytest.fixture
def card(small_card):
    return small_card(residual_norm=RISING)


def test_the_best_policy_is_taken_with_its_number_of_blocks(card, reference):
    found = transferred(card, reference)
    assert (found.policy, found.layers) == ("top", 3)
    placed = api.place(card, reference=reference)
    assert [block.index for block in placed.blocks] == [9, 10, 11]
    assert placed.policy == "top"
    assert placed.notes[-1].startswith(
        "policy top by the reference on reviews.csv (Spearman 1.000)"
    )


def test_where_placements_made_no_difference_there_is_nothing_to_follow(card, reference):
    (found,) = reference.measured
    equal = replace(reference, measured=(replace(found, verdict="no difference", finding="None."),))
    with pytest.raises(BadInputError, match=r"no difference between placements: 'None\.'"):
        transferred(card, equal)


def test_a_goal_keeps_to_what_was_measured_to_be_fast_enough(card, reference):
    assert transferred(card, reference, goal="balanced").policy == "last"
    slow = replace(reference, measured=(measured(regime("top", 0.5)),))
    with pytest.raises(
        BadInputError, match="without a measured policy that the goal allows: 'cost"
    ):
        transferred(card, slow, goal="cost")
    with pytest.raises(UnknownNameError, match="unknown goal"):
        transferred(card, reference, goal="fast")


def test_the_recommended_placement_may_have_been_best(card, reference):
    best = replace(reference, measured=(measured(regime("recommended", 0.5)),))
    assert transferred(card, best).policy is None
    assert api.place(card, reference=best).policy == "gain"


@pytest.mark.parametrize(("name", "goal"), [("recommended", None), ("balanced", "balanced")])
def test_what_was_advice_when_it_was_measured_is_what_is_placed(card, reference, name, goal):
    old = measured(replace(regime(name, 0.5), policy="uniform"))
    placed = api.place(card, reference=replace(reference, measured=(old,)))
    assert placed.policy == "uniform"
    assert placed.blocks == api.place(card, goal, policy="uniform", layers=3).blocks


@pytest.mark.parametrize("goal", [None, "balanced"])
def test_the_advice_within_a_goal_may_have_been_best(card, reference, goal):
    within = measured(regime("balanced", 0.5, 0.7), regime("top", 0.4))
    best = replace(reference, measured=(within,))
    found = transferred(card, best, goal=goal)
    assert (found.policy, found.goal) == (None, "balanced")
    placed = api.place(card, goal, reference=best)
    assert placed.blocks == api.place(card, "balanced", layers=3).blocks
    assert placed.blocks != api.place(card, layers=3).blocks


def test_the_measurement_of_the_nearest_size_counts(card, reference):
    five = measured(regime("mid", 0.1), size=5)
    both = replace(reference, measured=(*reference.measured, five))
    assert transferred(card, both, layers=4).policy == "mid"  # The latest on ties.
    assert transferred(card, both, layers=2).policy == "top"
    assert transferred(card, both).layers == 5
    assert len(api.place(card, reference=both, layers=2).blocks) == 2


def test_a_reference_that_is_too_different_says_its_correlation(small_card, reference):
    other = small_card(residual_norm=RISING[::-1])
    with pytest.raises(
        BadInputError, match=r"too different: Spearman.*'-1.0'; expected at least 0.9"
    ):
        transferred(other, reference)


def test_a_reference_of_another_model_or_without_measurements_is_refused(card, reference):
    other = replace(reference, model=replace(reference.model, revision="other"))
    with pytest.raises(SchemaError, match="a card of other weights of this model"):
        transferred(card, other)
    with pytest.raises(BadInputError, match="reference card without measured performance"):
        transferred(card, card)


@pytest.mark.parametrize("chosen", [{"policy": "top"}, {"blocks": "3,7"}])
def test_a_reference_chooses_alone(card, reference, chosen):
    (name,) = chosen
    with pytest.raises(PlacementError, match=f"{name} beside a reference"):
        api.place(card, reference=reference, **chosen)


def test_a_reference_may_be_named_by_where_it_lies(card, reference, tmp_path):
    reference.save(tmp_path)
    assert api.place(card, reference=tmp_path) == api.place(card, reference=reference)
