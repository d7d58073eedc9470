"""What every predictor promises, and what each was made to see."""

from dataclasses import replace

import numpy as np
import pytest

from laboratory.predictors import PREDICTORS
from layerwise.errors import PlacementError
from layerwise.placement.gain import predicted_gain

NEEDS = {n: "adam_gram" for n in PREDICTORS if n.startswith("adam-")}
NEEDS |= {n: "gram" for n in PREDICTORS if n.startswith(("gain", "additive", "gradient"))}
PLANTED = {
    "lowest": {"rows": (0, 9), "over": (1, 9)},
    "spread": {"rows": (0, 11), "over": (5, 6)},
    "nearness": {"rows": (3, 9), "over": (0, 11)},
    "coverage": {"rows": (0, 6), "over": (5, 6)},
}


@pytest.fixture
def card(small_card):
    """Twelve blocks whose gradients agree the more the lower they are."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(12, 10, 30)) + np.linspace(1.0, 0.05, 12)[:, None, None]
    gram = np.einsum("lid,ljd->lij", gradients, gradients)
    size = np.sqrt(np.square(gradients).mean(axis=1, keepdims=True))
    scaled = np.einsum("lid,ljd->lij", gradients / size, gradients)
    made = small_card(gram=gram, residual_norm=list(np.linspace(2.0, 1.0, 12)))
    return replace(made, arrays={"gram": gram, "adam_gram": scaled})


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_prediction_is_a_number_and_the_order_of_rows_does_not_matter(card, name):
    for rows in ((0,), (11,), (2, 5), tuple(range(12))):
        value = PREDICTORS[name](card, rows, damping=0.1)
        assert type(value) is float
        assert np.isfinite(value)
        assert PREDICTORS[name](card, rows[::-1], damping=0.1) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("name", PREDICTORS)
def test_blocks_with_the_larger_common_gradient_and_the_lower_ones_come_first(card, name):
    planted = PLANTED.get(name, {"rows": (0, 1), "over": (10, 11)})
    predict = PREDICTORS[name]
    assert predict(card, planted["rows"], damping=0.1) > predict(card, planted["over"], damping=0.1)


def test_nearness_is_the_mean_way_to_the_nearest_adapter(card):
    rows = (2, 9)
    ways = [min(abs(block - row) for row in rows) / 11 for block in range(12)]
    assert PREDICTORS["nearness"](card, rows, damping=0.1) == pytest.approx(-np.mean(ways))


@pytest.mark.parametrize("name", PREDICTORS)
def test_damping_changes_what_says_so_and_nothing_else(card, name):
    predict = PREDICTORS[name]
    low, high = (predict(card, (1, 6, 7), damping=d) for d in (0.01, 10.0))
    assert (low != high) == predict.is_damped


@pytest.mark.parametrize("name", PREDICTORS)
def test_an_amount_of_gain_grows_with_the_loss_and_never_makes_a_ranking_of_it(card, name):
    predict, sets = PREDICTORS[name], [(0, 3), (2, 9), (4, 5), (1, 11), (10, 11)]
    scaled = {key: value * 100.0 for key, value in card.arrays.items()}
    louder = replace(card, arrays=scaled)
    plain, loud = (np.array([predict(c, s, damping=0.1) for s in sets]) for c in (card, louder))
    assert list(np.argsort(plain)) == list(np.argsort(loud))


@pytest.mark.parametrize("name", NEEDS)
def test_what_a_card_lacks_is_named(card, name):
    bare = replace(card, arrays={k: v for k, v in card.arrays.items() if k != NEEDS[name]})
    with pytest.raises(PlacementError, match=f"no prediction without .*'{NEEDS[name]}'"):
        PREDICTORS[name](bare, (0,), damping=0.1)


@pytest.mark.parametrize("name", NEEDS)
def test_arrays_of_another_card_are_refused(card, name):
    wrong = replace(card, arrays={NEEDS[name]: np.zeros((5, 3, 3))})
    with pytest.raises(PlacementError, match=r"not this card's: '\(5, 3, 3\)'; expected .* of 12"):
        PREDICTORS[name](wrong, (0,), damping=0.1)


def test_a_block_without_the_signal_is_named(small_card):
    card = small_card(3, residual_norm=[1.0, None, 2.0])
    with pytest.raises(PlacementError, match=r"without residual_norm, which model.layers.1 lacks"):
        PREDICTORS["residual-norm"](card, (0, 1), damping=0.1)


def test_every_predictor_says_what_it_is():
    assert all(p.name == name and p.summary.endswith(".") for name, p in PREDICTORS.items())


def test_the_advice_goes_by_one_of_them(card):
    assert PREDICTORS["adam-nearness"].is_gain
    assert PREDICTORS["adam-nearness"](card, (2, 9), damping=0.1) == predicted_gain(card, (2, 9))
