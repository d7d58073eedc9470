"""What a card's measurement found, said beside each placement by that card."""

from dataclasses import replace

import pytest

from layerwise.api import cards as api
from layerwise.card.record import MeasuredRegime, Measurement
from layerwise.placement.advise import advise, advise_again
from layerwise.placement.measured import measured_note, nearest
from layerwise.placement.place import place

FINDINGS = {
    "better": "Better.",
    "no difference": "No difference.",
    "worse": "Worse.",
    None: None,
}


def measured(advised, verdict, *, size=2):
    regimes = tuple(
        MeasuredRegime(name, layers, 1.0 - n, 1.0, 10)
        for n, (name, layers) in enumerate(
            {"random-0": (0, 1), "recommended": advised, "all": tuple(range(12))}.items()
        )
    )
    return Measurement(
        "loss", "causal-lm", "0" * 64, size, 8, 40, 3, regimes,
        verdict=verdict, finding=FINDINGS[verdict], reason="Figures.",
    )  # fmt: skip


@pytest.fixture
def card(small_card):
    """Makes a card on which its advice was measured, with this verdict."""

    def make(verdict, **how):
        plain = small_card()
        found = measured(advise(plain).layers, verdict, **how)
        return replace(plain, advice=advise(plain), measured=(found,))

    return make


@pytest.mark.parametrize(
    ("verdict", "own", "others"),
    [
        ("better", "it follows that", "it does not follow that"),
        ("worse", "it does not follow that", "it follows that"),
        ("no difference", "there was nothing to follow", "there was nothing to follow"),
        (None, "there was nothing to follow", "there was nothing to follow"),
    ],
)
def test_a_placement_says_what_was_found_and_whether_it_follows(card, verdict, own, others):
    it = card(verdict)
    (*_, said) = api.place(it).notes
    found = f"{FINDINGS[verdict][:-1]}; " if verdict else ""
    assert said == (
        f"layerwise measure compared adapters of rank 8 on 2 blocks (3 seeds): {found}random-0 "
        f"came first of 2; this placement has the blocks of recommended, number 2: {own}"
    )
    (*_, said) = api.place(it, blocks="0,1").notes
    assert said.endswith(f"this placement has the blocks of random-0, number 1: {others}")
    (*_, said) = api.place(it, policy="all").notes
    assert f"; this placement has the blocks of all: {others}" in said
    (*_, said) = api.place(it, blocks="0,2").notes
    assert said.endswith(f"this placement has blocks that were not compared: {others}")


def test_without_a_measurement_nothing_is_said(small_card):
    assert measured_note(small_card(), place(small_card())) is None
    assert not any("measure" in note for note in api.place(small_card()).notes)


def test_the_measurement_of_the_nearest_size_is_meant_the_latest_on_ties(card):
    it = card("better", size=4)
    two, again = measured((5, 6), None), measured((5, 7), "worse")
    it = replace(it, measured=(*it.measured, two, again))
    assert nearest(it, 4) is it.measured[0]
    assert nearest(it, 1) is nearest(it, None) is again


def test_the_advice_of_a_measured_card_tells_what_was_found(card):
    it = card("no difference")
    again = advise_again(it)
    assert again.layers == it.advice.layers
    assert "the default until" in it.advice.reason
    assert "the default until" not in again.reason
    assert again.reason.endswith(
        "layerwise measure compared placements of 2 blocks: No difference."
    )
    assert not any("layerwise measure" in remedy for remedy in again.remedies)
    assert len(again.remedies) == len(it.advice.remedies) - 1
    assert advise_again(replace(it, advice=again)) == again
    assert advise_again(replace(it, advice=None)) is None
