"""A placement is derived again from halves of the examples."""

from dataclasses import replace

import numpy as np
import pytest

from layerwise.api.cards import place
from layerwise.placement.advise import advise
from layerwise.placement.place import choose
from layerwise.placement.stability import SAMPLES, stability


def card_of(small_card, gradients):
    gram = np.einsum("lnd,lmd->lnm", gradients, gradients)
    return small_card(len(gradients), gram=gram)


def test_what_every_example_says_comes_out_of_every_half(small_card):
    g = np.zeros((12, 16, 3))
    g[[2, 9]] = 5.0
    card = card_of(small_card, g)
    found = advise(card).stability
    assert (found.samples, found.same) == (SAMPLES, SAMPLES)
    assert found.always == advise(card).layers
    (note,) = [n for n in place(card).notes if "half-samples" in n]
    assert note.startswith(f"in {SAMPLES} of {SAMPLES} half-samples of the examples the same 2 blo")
    assert "always model.layers." in note


def test_noise_does_not_choose_the_same_blocks_twice(small_card):
    card = card_of(small_card, np.random.default_rng(0).normal(size=(24, 16, 50)))
    assert advise(card).stability.same <= SAMPLES / 4


def test_half_samples_are_halves_of_the_examples(small_card):
    """A row that is chosen where one example is there comes out in about half of the samples."""
    g = np.random.default_rng(1).normal(size=(12, 16, 4)) * 0.01
    seen = []

    def again(half):
        gram = half.arrays["adam_gram"]
        assert gram.shape == (12, 8, 8)
        seen.append(gram[0].trace())
        return choose(half).rows

    card = card_of(small_card, g)
    stability(card, (0,), again=again)
    assert len({round(s, 12) for s in seen}) > SAMPLES / 2
    whole = card.arrays["adam_gram"][0].trace()
    assert np.mean(seen) == pytest.approx(whole / 2, rel=0.2)


def test_policies_that_go_by_no_example_say_nothing(small_card):
    card = card_of(small_card, np.ones((12, 16, 2)))
    assert not any("half-samples" in n for n in place(card, policy="uniform").notes)
    assert advise(small_card(gram=None)).stability is None
    few = replace(card, arrays={"adam_gram": np.ones((12, 3, 3))})
    assert advise(few).stability is None
