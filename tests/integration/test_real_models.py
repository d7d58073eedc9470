"""The Layer Card of real models on real text."""

import numpy as np
import pytest

import layerwise as lw
from layerwise.signals import SIGNALS
from layerwise.signals.ranks import spearman

pytestmark = [pytest.mark.slow, pytest.mark.real_model]


@pytest.fixture(scope="module")
def smollm2_card(smollm2):
    return lw.card("demo", "demo", examples=24)


@pytest.fixture(scope="module")
def minilm_card(minilm):
    return lw.card(str(minilm), "demo", examples=24, batch_size=12)


def test_residual_norm_falls_with_depth_in_smollm2(smollm2_card):
    residual = smollm2_card.column("residual_norm")
    assert len(residual) == 30
    assert spearman(residual, np.arange(30.0)) < -0.9


def test_every_signal_of_a_causal_model_is_there(smollm2_card):
    assert smollm2_card.data.objective == "causal-lm"
    for name in SIGNALS:
        assert np.isfinite(smollm2_card.column(name)).all(), name
    assert not smollm2_card.absent
    assert smollm2_card.model.parameters == 134_515_008
    low, high = (smollm2_card.column(f"residual_norm_{end}") for end in ("low", "high"))
    residual = smollm2_card.column("residual_norm")
    assert (low < residual).all()
    assert (residual < high).all()


def test_entropy_is_below_that_of_attending_to_every_token(smollm2_card):
    longest = smollm2_card.data.max_length
    entropy = smollm2_card.column("attention_entropy")
    assert (entropy > 0).all()
    assert (entropy < np.log(longest)).all()


def test_effective_rank_is_below_the_width(smollm2_card):
    rank = smollm2_card.column("effective_rank")
    assert (rank > 1).all()
    assert (rank < 576).all()


def test_the_card_says_which_bytes_it_was_made_of(smollm2_card, smollm2):
    import hashlib

    folder, name = smollm2
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert digest in smollm2_card.model.files.values()


def test_another_seed_of_text_gives_nearly_the_same_ranking(smollm2_card):
    other = lw.card("demo", "demo", examples=24, seed=1, signals=["residual_norm"])
    assert other.data.sha256 != smollm2_card.data.sha256
    assert lw.compare(smollm2_card, other).pairs[0].spearman > 0.9


def test_an_encoder_without_a_head_is_measured_by_simcse(minilm_card):
    assert minilm_card.data.objective == "simcse"
    assert len(minilm_card.layers) == 6
    for name in SIGNALS:
        assert np.isfinite(minilm_card.column(name)).all(), name


def test_a_card_makes_a_placement_that_peft_carries_out(smollm2_card):
    placement = lw.place(smollm2_card, policy="gain", layers=5)
    assert len(placement.blocks) == 5
    assert len(placement.modules) == 20
    assert placement.cost.step_ratio <= 1.0 + 1e-9
