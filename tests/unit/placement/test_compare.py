"""Cards held against each other."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from layerwise.card.record import MeasuredRegime, Measurement, StackInfo
from layerwise.errors import BadInputError, SchemaError
from layerwise.placement.compare import compare
from layerwise.placement.gain import predicted_gain
from layerwise.placement.place import choose

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


def slow_partial(first, second):
    """Return Spearman's correlation with depth held fixed, by the formula of three of them."""
    depth = range(len(first))
    (ab, ad, bd) = (
        spearmanr(x, y).statistic for x, y in ((first, second), (first, depth), (second, depth))
    )
    return (ab - ad * bd) / np.sqrt((1 - ad**2) * (1 - bd**2))


def test_texts_that_share_their_trend_alone_agree_on_nothing_else(small_card):
    rng, found = np.random.default_rng(0), []
    for _ in range(60):
        trend = -0.3 * np.arange(30)
        norms = [np.exp(trend + rng.normal(size=30)).tolist() for _ in range(2)]
        (pair,) = compare([small_card(30, residual_norm=n) for n in norms]).pairs
        assert pair.detrended == pytest.approx(slow_partial(*norms))
        found.append((pair.spearman, pair.detrended))
    told, left = np.mean(found, axis=0)
    error = np.std(found, axis=0)[1] / np.sqrt(len(found))
    assert told > 0.8
    assert abs(left) < 3 * error


def test_a_ranking_by_depth_alone_leaves_nothing_to_agree_on(small_card):
    swapped = [1.0, 0.0, *RISING[2:]]
    (pair,) = compare([small_card(residual_norm=v) for v in (RISING, swapped)]).pairs
    assert pair.detrended is None


def test_the_other_cards_advice_is_priced_by_ones_own_gains(small_card):
    rng = np.random.default_rng(1)
    one, other = (
        small_card(gram=np.stack([(g := rng.normal(size=(8, 5)) + 1.0) @ g.T for _ in range(12)]))
        for _ in range(2)
    )
    (same,) = compare([one, one]).pairs
    size = len(choose(one).rows)
    assert (same.advised, same.common, same.costs) == ((size,) * 2, (size,) * 2, (0.0, 0.0))
    (pair,) = compare([one, other]).pairs
    for place, (own, theirs) in enumerate(((one, other), (other, one))):
        rows = choose(theirs).rows
        best = choose(own, layers=len(rows)).rows
        kept = predicted_gain(own, rows) / predicted_gain(own, best)
        assert pair.advised[place] == len(rows)
        assert pair.common[place] == len({*rows} & {*best})
        assert pair.costs[place] == pytest.approx(1 - kept)
    assert compare([one, small_card(gram=None)]).pairs[0].costs is None


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


def measured(card, **kept):
    """The card with what policies kept of all blocks' improvement, and their step ratios."""
    regimes = [MeasuredRegime("all", (0,), 2.0, 1.0, 1, step_ratio=1.0)]
    regimes += [MeasuredRegime(name, (0,), 2.0 * share, 1.0, 1, step_ratio=ratio)
                for name, (share, ratio) in kept.items()]  # fmt: skip
    found = Measurement("loss", "causal-lm", "0" * 64, 1, 8, 40, 3, tuple(regimes))
    return replace(card, measured=(found,))


def test_each_measured_card_is_advised_by_the_others(small_card):
    cards = [
        measured(small_card(), top=(0.9, 0.8), bottom=(0.5, 0.5), uniform=(0.95, 1.0)),
        measured(small_card(), top=(0.8, 0.8), bottom=(0.6, 0.4), mid=(1.2, 0.9)),
        measured(small_card(), top=(1.1, 0.8), bottom=(0.7, 0.5)),
        small_card(),
    ]
    found = {(t.target, t.policy): t for t in compare(cards).transfers}
    assert {policy for _, policy in found} == {"top", "bottom"}  # The others were not on all.
    assert {target for target, _ in found} == {0, 1, 2}
    assert found[1, "bottom"].drop == pytest.approx(0.4)
    assert found[1, "bottom"].speedup == pytest.approx(1.5)
    assert found[2, "top"].drop == pytest.approx(-0.1)
    assert {t.policy: t.picked for t in found.values() if t.target == 0} == {
        "top": "quality", "bottom": "cost",
    }  # fmt: skip
    assert compare(cards[2:]).transfers == ()
    assert "Each card by what was measured on the others" in str(compare(cards))
