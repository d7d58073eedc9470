"""Advice: when it says place, when flat, and what it gives as reason and remedy."""

from dataclasses import replace

import pytest

from layerwise.card.record import Agreement
from layerwise.placement import POLICIES
from layerwise.placement.advise import advise
from layerwise.placement.place import place

#: What every card can still be made surer by.
REST = (
    "make a second card on other text and hold it against this one: layerwise compare",
    (
        "train it beside its rivals, a low rank on all blocks among them, which gained more where "
        "that was tried (docs/evidence.md): layerwise measure with --card"
    ),
)


def with_intervals(small_card, low, high, **columns):
    return small_card(
        len(low),
        residual_norm=[(a + b) / 2 for a, b in zip(low, high, strict=True)],
        residual_norm_low=low,
        residual_norm_high=high,
        **columns,
    )


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        ([1.0, 1.5, 1.9], [2.0, 2.5, 3.0], "flat"),
        ([1.0, 2.0], [2.0, 3.0], "flat"),
        ([1.0, 2.1], [2.0, 3.0], "place"),
        ([1.0, 1.5, 2.1], [2.0, 2.5, 3.0], "place"),
    ],
)
def test_flat_is_when_no_two_intervals_are_apart(small_card, low, high, verdict):
    assert advise(with_intervals(small_card, low, high)).verdict == verdict


def test_without_intervals_nothing_is_told_apart(small_card):
    card = small_card(residual_norm_low=None, residual_norm_high=None)
    advice = advise(card)
    assert advice.verdict == "flat"
    assert "No residual norms with intervals were measured" in advice.reason


def test_the_advice_is_what_place_does(small_card):
    card = small_card()
    advice = advise(card)
    assert advice.layers == tuple(block.index for block in place(card).blocks)
    assert advice.policy == "gain"


def test_without_gains_it_takes_the_middles_and_says_so(small_card):
    card = small_card(gram=None)
    advice = advise(card)
    assert advice.policy == "midpoints"
    assert advice.layers == POLICIES["midpoints"](card, 2, rows=range(12))
    assert "2 of 12 blocks are the middles of equal parts, what each would gain" in advice.reason


def test_the_reason_is_one_sentence_with_the_figures(small_card):
    card = with_intervals(small_card, [0.0, 5.0, 1.0], [1.0, 6.0, 2.0])
    assert advise(card).reason == (
        "The residual norm of model.layers.1 (at least 5) is above that of model.layers.0 (at most "
        "1); 1 of 3 blocks are chosen to lie near most of what all blocks would gain, the default "
        "until layerwise measure has compared placements of this model; a step takes "
        f"{place(card).cost.step_ratio:.2f} of one with all blocks."
    )


def test_without_timings_it_says_what_is_not_known(small_card):
    advice = advise(small_card(backward_seconds=None))
    assert advice.layers == POLICIES["gain"](small_card(), 2, rows=range(12))
    assert "what a step takes is unknown, since the card has no timings" in advice.reason


def test_a_sure_card_has_what_is_always_left(small_card):
    assert advise(small_card()).remedies == REST


def test_the_weakest_link_comes_first(small_card):
    shaky = Agreement(bootstrap_spearman=0.7, rank_stability=0.6)
    remedies = advise(replace(small_card(), agreement=shaky)).remedies
    assert remedies == (
        (
            "measure at a larger rank (rankings at several adapter ranks agree at 0.60 only): "
            "layerwise card with --rank 16"
        ),
        (
            "measure more text (resampled rankings agree at 0.70 only): "
            "layerwise card with --examples 256"
        ),
        *REST,
    )


@pytest.mark.parametrize(
    ("available", "how"),
    [
        (None, "layerwise card with --examples 256"),
        (1000, "layerwise card with --examples 256"),
        (65, "layerwise card with --examples 65"),
        (64, "this one's 64 rows were all measured"),
    ],
)
def test_no_more_text_is_asked_for_than_there_is(small_card, available, how):
    card = replace(small_card(), agreement=Agreement(bootstrap_spearman=0.7))
    first, *_ = advise(card, available=available).remedies
    assert first.endswith(f": {how}")


def test_flat_and_wide_cards_ask_for_more_text_once(small_card):
    card = with_intervals(small_card, [1.0] * 6, [3.0] * 6)
    first, *rest = advise(card).remedies
    assert first == (
        "measure more text (no two blocks are told apart, intervals are 100% of their norm wide): "
        "layerwise card with --examples 256"
    )
    assert tuple(rest) == REST


def test_a_signal_that_was_not_asked_for_can_be_measured(small_card):
    lacking = small_card(attention_entropy=None)
    assert "layerwise card without --signals" in advise(lacking).remedies[0]
    none = small_card(attention_entropy=None, absent={"attention_entropy": "no attention"})
    assert advise(none).remedies == REST
