"""Distances between objectives at real models, on real text."""

import numpy as np
import pytest

import layerwise as lw
from layerwise.distance.record import METRICS

pytestmark = [pytest.mark.slow, pytest.mark.real_model]  # Seconds of forwards of real models.

TEXT = {"where": ["source=rotten_tomatoes"], "max_length": 32}


@pytest.fixture(scope="module")
def smollm2_distance(demo):
    return lw.distance(demo, "demo", examples=18, batch_size=6, **TEXT)


@pytest.fixture(scope="module")
def minilm_distance(minilm):
    how = {"examples": 48, "batch_size": 8, "reference": "simcse", **TEXT}
    return [lw.distance(str(minilm), "demo", seed=seed, **how) for seed in (0, 0, 1)]


def test_every_objective_of_a_causal_model(smollm2_distance):
    names = [o.name for o in smollm2_distance.objectives]
    assert names == ["causal-lm", "causal-span", "simcse", "barlow-twins"]
    assert smollm2_distance.settings.width == 576
    assert smollm2_distance.settings.forwards == 3 * 3
    frame = smollm2_distance.frame()
    assert np.isfinite(frame.drop(columns=["objective", "part"]).to_numpy()).all()
    reference = smollm2_distance["causal-lm"]
    assert all(getattr(reference, metric) == 0 for metric in METRICS)


def test_the_same_loss_on_hidden_spans_is_nearer_than_losses_on_whole_texts(smollm2_distance):
    near = smollm2_distance["causal-span"]
    for name in ("simcse", "barlow-twins"):
        far = smollm2_distance[name]
        assert near.procrustes < far.procrustes
        assert near.cosine < far.cosine


def test_an_encoder_is_fixed_by_its_seed(minilm_distance):
    first, again, other = minilm_distance
    assert first.objectives == again.objectives
    assert first.objectives != other.objectives
    assert 0 < first["barlow-twins"].procrustes < np.sqrt(2)
    assert first["barlow-twins"].procrustes == pytest.approx(
        other["barlow-twins"].procrustes, rel=0.2
    )
