"""The prediction that the advice goes by."""

from dataclasses import replace

import numpy as np
import pytest

from layerwise.errors import PlacementError
from layerwise.placement.gain import distances, predicted_gain


@pytest.fixture
def card(small_card):
    """Twelve blocks whose gradients agree the more the lower they are."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(12, 10, 30)) + np.linspace(1.0, 0.05, 12)[:, None, None]
    return small_card(gram=np.einsum("lid,ljd->lij", gradients, gradients))


def test_each_blocks_gain_counts_less_by_its_way_to_an_adapter(card):
    rows, expected = (2, 9), 0.0
    for block, gram in enumerate(card.arrays["adam_gram"]):
        others = [gram[i, j] for i in range(10) for j in range(10) if i != j]
        way = min(abs(block - row) for row in rows) / 11
        assert distances(card, rows)[block] == pytest.approx(way)
        expected += max(np.mean(others), 0.0) * (1.0 - way)
    assert predicted_gain(card, rows) == pytest.approx(expected)
    assert predicted_gain(card, rows[::-1]) == predicted_gain(card, rows)
    assert predicted_gain(card, (0, 1)) > predicted_gain(card, (10, 11))


def test_what_a_card_lacks_is_named(card, small_card):
    with pytest.raises(PlacementError, match=r"no prediction without .*'adam_gram'"):
        predicted_gain(replace(card, arrays={"gram": card.arrays["gram"]}), (0,))
    wrong = replace(card, arrays={"adam_gram": np.zeros((5, 3, 3))})
    with pytest.raises(PlacementError, match=r"not this card's: '\(5, 3, 3\)'; expected .* of 12"):
        predicted_gain(wrong, (0,))
    with pytest.raises(PlacementError, match="expected too few examples"):
        predicted_gain(small_card(3, gram=None, absent={"gain": "too few examples"}), (0,))
