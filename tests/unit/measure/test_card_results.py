"""A measurement added to its card."""

from dataclasses import replace

import pytest

from layerwise.card.record import LayerCard
from layerwise.errors import SchemaError
from layerwise.measure.card_results import with_measured


@pytest.fixture(scope="module")
def found(measuring):
    return measuring(arms=("uniform", "eva", "random", "all"))


def test_every_arm_that_was_compared_is_a_regime_and_what_was_found_is_said(found):
    made = found.measure
    card = with_measured(found.subject.card, made)
    (measured,) = card.measured
    names = [regime.name for regime in measured.regimes]
    assert names == [arm.name for arm in made.arms]
    assert set(names) == {"recommended", "uniform", "eva", "random-0", "all"}
    assert (measured.verdict, measured.reason) == (made.verdict, made.reason)
    assert measured.finding == "Too few random draws to tell the recommended placement from one."
    assert measured.size == made.budget.layers
    assert measured.seeds == 2
    assert (measured.data_source, measured.data_sha256) == (made.data.source, made.data.sha256)
    for regime in measured.regimes:
        arm = made.arm(regime.name)
        assert regime.improvement == arm.outcome.improvement
        assert [card.layers[row].index for row in regime.layers] == [b.index for b in arm.blocks]


def test_the_same_budget_takes_the_old_one_s_place_and_another_stands_beside_it(found):
    made = found.measure
    once = with_measured(found.subject.card, made)
    assert with_measured(once, made) == once
    longer = replace(made, budget=replace(made.budget, steps=99))
    assert [m.steps for m in with_measured(once, longer).measured] == [made.budget.steps, 99]


def test_it_is_saved_with_the_card_and_older_cards_have_none(found, tmp_path):
    card = with_measured(found.subject.card, found.measure)
    card.save(tmp_path)
    assert LayerCard.load(tmp_path) == card
    found.subject.card.save(tmp_path)
    assert LayerCard.load(tmp_path).measured is None
    assert "measured" not in found.subject.card.to_plain()


def test_an_arm_that_failed_is_named_with_the_reason(found):
    made = found.measure
    gone = replace(made.arms[-1], outcome=None, failed="it diverged at every learning rate")
    (measured,) = with_measured(
        found.subject.card, replace(made, arms=(*made.arms[:-1], gone))
    ).measured
    assert measured.failed == {gone.name: gone.failed}
    assert gone.name not in {regime.name for regime in measured.regimes}


def test_without_random_draws_there_is_no_verdict(found):
    alone = replace(found.measure, against_random=None)
    (measured,) = with_measured(found.subject.card, alone).measured
    assert measured.verdict is None
    assert "was not held against random ones" in measured.finding


def test_a_card_of_another_model_gets_nothing(found, seen):
    with pytest.raises(SchemaError, match="a card of another model"):
        with_measured(seen("bert").card, found.measure)
