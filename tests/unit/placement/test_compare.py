"""Cards held against each other."""

from dataclasses import replace

import pytest
from scipy.stats import spearmanr

from layerwise.card.record import StackInfo
from layerwise.errors import BadInputError, SchemaError
from layerwise.placement.compare import compare

RISING = [float(i) for i in range(12)]


def test_every_pair_is_compared_by_rank(small_card):
    swapped = [1.0, 0.0, *RISING[2:]]
    cards = [small_card(residual_norm=v) for v in (RISING, swapped, RISING[::-1])]
    comparison = compare(cards)
    found = {(p.first, p.second): p.spearman for p in comparison.pairs}
    expected = spearmanr(RISING, swapped).statistic
    assert found == pytest.approx(
        {(0, 1): expected, (0, 2): -1.0, (1, 2): spearmanr(swapped, RISING[::-1]).statistic}
    )
    assert [p.usable for p in comparison.pairs] == [True, False, False]
    assert comparison.model == "org/model"
    assert comparison.data == ("reviews.csv (causal-lm)",) * 3


def test_the_threshold_is_an_argument(small_card):
    cards = [small_card(residual_norm=v) for v in (RISING, [1.0, 0.0, *RISING[2:]])]
    rho = compare(cards).pairs[0].spearman
    assert compare(cards, threshold=rho).pairs[0].usable
    assert not compare(cards, threshold=rho + 1e-6).pairs[0].usable


@pytest.mark.parametrize("count", [0, 1])
def test_one_card_is_nothing_to_compare(small_card, count):
    with pytest.raises(BadInputError, match=f"cards to compare: '{count}'; expected at least 2"):
        compare([small_card()] * count)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "Other"},
        {"parameters": 7},
        {"stacks": (StackInfo("model.layers", 11, "Block", "sequential"),)},
        {"source": "org/other"},
    ],
)
def test_a_card_of_another_model_is_refused(small_card, change):
    card = small_card()
    other = replace(card, model=replace(card.model, **change))
    line = r"another model: 'org/.*parameters\)'; expected org/model \(Model, 12 blocks, 1,000 para"
    with pytest.raises(SchemaError, match=line):
        compare([card, other])


def test_a_card_of_another_revision_is_refused(small_card):
    card = small_card()
    other = replace(card, model=replace(card.model, revision="def"))
    line = "other weights of this model: 'revision def'; expected revision abc"
    with pytest.raises(SchemaError, match=line):
        compare([card, other])


def test_the_same_weights_are_the_same_model_wherever_they_lie(small_card):
    card = small_card()
    here = replace(card, model=replace(card.model, files={"a/w": "1" * 64}))
    there = replace(card, model=replace(card.model, source="/b", files={"b/w": "1" * 64}))
    tuned = replace(card, model=replace(card.model, files={"a/w": "2" * 64}))
    assert compare([here, there]).pairs[0].spearman == pytest.approx(1.0)
    line = "other weights of this model: 'a/w 222222222222'; expected a/w 111111111111"
    with pytest.raises(SchemaError, match=line):
        compare([here, tuned])


def test_a_card_without_residual_norms_cannot_be_compared(small_card):
    with pytest.raises(BadInputError, match="card without residual norms of every block"):
        compare([small_card(), small_card(residual_norm=None)])
