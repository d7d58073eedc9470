"""Rival placements measured on a tiny model."""

from dataclasses import replace

import pytest

import layerwise as lw
from layerwise.errors import (
    BadInputError,
    DataError,
    NonFiniteError,
    SchemaError,
    UnknownNameError,
    VerificationError,
)
from layerwise.measure.arms import bounds
from layerwise.measure.run import _refuse_unequal

pytestmark = pytest.mark.slow  # Short runs, many of them.


@pytest.fixture(scope="module")
def whole(measuring):
    """A measurement of every arm."""
    return measuring(ladder=(1e-3, 1e-2))


@pytest.fixture
def ran(whole):
    """Its arms, but for those of goals: whether a tiny model can meet one is up to the clock."""
    found = [arm for arm in whole.measure.arms if arm.trials]
    assert {arm.name for arm in whole.measure.arms if arm not in found} <= set(bounds())
    return found


def test_every_arm_has_the_same_budget(whole, ran):
    made = whole.measure
    equal = [arm for arm in ran if arm.equal]
    assert len(equal) > 15
    assert {arm.adapter_parameters for arm in equal} == {made.budget.adapter_parameters}
    for arm in ran:
        assert [trial.seed for trial in arm.trials] == [0, 1]
        assert tuple(trial.tokens for trial in arm.trials) == made.budget.tokens
        assert {trial.steps for trial in arm.trials} == {made.budget.steps} == {2}


def test_rates_are_chosen_on_a_seed_that_scores_nobody(whole, ran):
    made = whole.measure
    assert made.ladder_seed == 2
    assert made.ladder_seed not in made.seeds
    for arm in ran:
        best = max(arm.ladder, key=lambda rung: rung.improvement)
        assert [rung.learning_rate for rung in arm.ladder] == [1e-3, 1e-2]
        assert arm.learning_rate == best.learning_rate
        assert {trial.learning_rate for trial in arm.trials} == {arm.learning_rate}
    assert made.data.examples == 40 - 2 * 6


def test_the_same_adapters_are_trained_once(whole):
    by_name = {arm.name: arm for arm in whole.measure.arms}
    copies = [arm for arm in by_name.values() if arm.same_as]
    assert copies
    for arm in copies:
        assert arm.trials == by_name[arm.same_as].trials
        assert arm.blocks == by_name[arm.same_as].blocks


def test_it_is_shown(whole):
    assert whole.measure.arm("all").name == "all"
    assert "Rival placements: llama" in str(whole.measure)
    assert "<iframe" in whole.measure._repr_html_()


def test_without_random_draws_nothing_is_held_against_them_and_the_model_is_what_it_was(
    measuring, tuning
):
    found = measuring(arms=("last",), seeds=(0,))
    assert tuning.same(tuning.weights(tuning.loaded()), tuning.weights(found.subject.loaded))
    assert found.measure.against_random is None
    assert found.measure.verdict == "no difference"


def test_a_card_is_made_where_there_is_none(measuring):
    made = measuring(card=None, arms=("first",), seeds=(0,)).measure
    assert made.card.source == "made"
    assert made.card.examples == 28
    assert made.budget.rank == 8


def test_an_arm_that_diverges_at_one_rate_takes_another(measuring):
    made = measuring(arms=("last",), seeds=(0,), ladder=(1e-2, 1e30), steps=4).measure
    for arm in made.arms:
        assert arm.learning_rate == 1e-2
        assert arm.ladder[1].improvement is None


def test_a_recommendation_that_cannot_be_trained_is_an_error(measuring):
    with pytest.raises(NonFiniteError, match=r"could not be measured .it diverged at every"):
        measuring(arms=("last",), seeds=(0,), ladder=(1e30,), steps=4)


def test_arms_that_were_given_more_are_refused(one_arm):
    arms = [one_arm("recommended", [0.1]), one_arm("top", [0.2])]
    _refuse_unequal(arms)
    more = replace(arms[1].trials[0], tokens=51)
    with pytest.raises(VerificationError, match="arms of unequal budget: 'top and recommended'"):
        _refuse_unequal([arms[0], replace(arms[1], trials=(more,))])
    larger = replace(arms[1].trials[0], trainable_parameters=101)
    with pytest.raises(VerificationError, match="unequal budget"):
        _refuse_unequal([arms[0], replace(arms[1], trials=(larger,))])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"eval_examples": 20}, DataError, "out of 40: '20'; expected at most 19"),
        ({"arms": ("unform",)}, UnknownNameError, "unknown arm: 'unform'"),
    ],
)
def test_what_cannot_be_measured_is_refused(measuring, options, error, words):
    with pytest.raises(error, match=words):
        measuring(**options)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        *(("seeds", seeds, "each once") for seeds in ((), (1, 1))),
        *(("ladder", ladder, "above 0") for ladder in ((), (0.0,))),
        ("eval_examples", 0, "1 or more"),
    ],
)
def test_values_that_cannot_be_are_refused_before_anything_is_read(option, value, says):
    with pytest.raises(BadInputError, match=f"value of {option}: .*{says}"):
        lw.measure("nowhere", "nothing", **{option: value})


def test_a_card_of_another_model_is_refused(measuring, seen):
    with pytest.raises(SchemaError, match="a card of another model"):
        measuring(card=seen("bert").card)
