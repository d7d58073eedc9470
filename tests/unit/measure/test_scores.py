"""Scores of other tools, against their definitions written out once more."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from layerwise.errors import PlacementError
from layerwise.measure.scores import SCORES, rows_by_score


@pytest.fixture(scope="module")
def small(seen):
    return seen()


@pytest.mark.parametrize("name", list(SCORES))
@pytest.mark.parametrize("model", ["llama", "bert", "gpt2"])
def test_every_score_is_one_finite_number_a_block_and_leaves_no_trace(seen, tuning, name, model):
    subject = seen(model)
    before = tuning.weights(subject.loaded)
    scores = SCORES[name](subject)
    assert scores.shape == (len(subject.card.layers),)
    assert np.isfinite(scores).all()
    assert np.array_equal(scores, SCORES[name](subject))
    assert tuning.same(before, tuning.weights(subject.loaded))
    assert all(p.requires_grad and p.grad is None for p in subject.loaded.model.parameters())


@pytest.mark.parametrize("name", list(SCORES))
def test_a_block_without_adapted_modules_has_no_score(small, name):
    bare = replace(small.card.layers[0], modules=())
    card = replace(small.card, layers=(bare, *small.card.layers[1:]))
    scores = SCORES[name](replace(small, card=card))
    assert np.isnan(scores[0])
    assert np.isfinite(scores[1:]).all()


def test_eva_gives_each_input_the_ranks_that_its_largest_ratios_earn(small):
    first, second = (layer.modules[0] for layer in small.card.layers[:2])
    planted = {
        f"spectrum/{first}": np.array([8.0, 1.0, 1.0]),
        f"spectrum/{second}": np.array([1.0] * 10),
        "gram": np.zeros(3),
    }
    capture = replace(small.card.capture, rank=1)
    card = replace(small.card, arrays=planted, capture=capture)
    # Two inputs of rank 1: the two largest of 0.8, 0.1 | 0.1, 0.1, ...; the earlier one on a tie.
    assert SCORES["eva"](replace(small, card=card)).tolist() == [2.0, 0.0]


def test_eva_needs_spectra(small):
    with pytest.raises(PlacementError, match="score eva needs the spectra"):
        SCORES["eva"](replace(small, card=replace(small.card, arrays={})))


def weights(subject, row):
    return [
        (name.rpartition(".")[2], subject.loaded.model.get_submodule(name).weight.detach().numpy())
        for name in subject.card.layers[row].modules
    ]


def test_kappa_prefers_well_conditioned_weights(small):
    expected = []
    for row in range(2):
        values = [np.linalg.svd(w, compute_uv=False) for _, w in weights(small, row)]
        expected.append(-np.mean([np.log10(v[0] / (v[-1] + 1e-8)) for v in values]))
    assert SCORES["kappa"](small) == pytest.approx(expected, rel=1e-4)


def spectrum_ratio(weight):
    values = np.linalg.svd(weight, compute_uv=False)
    low, high = np.percentile(values, [25, 75])
    edge = (high - low) / 1.349 * (1 + np.sqrt(min(weight.shape) / max(weight.shape)))
    return values[values > edge].sum() / values[values <= edge].sum() / values[0]


def test_snr_is_the_standing_among_the_modules_of_one_name(small):
    ratios = [{name: spectrum_ratio(w) for name, w in weights(small, row)} for row in range(2)]
    names = list(ratios[0])
    expected = [
        np.mean([0.5 + 0.5 * (ratios[r][n] > ratios[1 - r][n]) for n in names]) for r in (0, 1)
    ]
    assert SCORES["snr"](small) == pytest.approx(expected)
    assert expected[0] != expected[1]


def test_gradient_sums_the_norms_of_a_block_s_own_weights(small):
    model = small.loaded.model
    expected = np.zeros(2)
    for batch in small.batches:
        model.zero_grad()
        small.objective.losses(model, batch).mean().backward()
        for row, layer in enumerate(small.card.layers):
            block = model.get_submodule(layer.name)
            expected[row] += sum(float(p.grad.norm()) for p in block.parameters())
    model.zero_grad()
    assert SCORES["gradient"](small) == pytest.approx(expected, rel=1e-5)


def test_the_largest_scores_are_taken_the_lower_block_on_ties():
    scores = np.array([1.0, 3.0, np.nan, 3.0, 2.0])
    assert rows_by_score(scores, 2, rows=range(5)) == (1, 3)
    assert rows_by_score(scores, 1, rows=range(5)) == (1,)
    assert rows_by_score(scores, 2, rows=(0, 2, 4)) == (0, 4)
    with pytest.raises(PlacementError, match="blocks with a score: '1'; expected at least 2"):
        rows_by_score(scores, 2, rows=(0, 2))


def test_a_module_without_a_gradient_counts_as_nothing(small):
    block = small.loaded.model.get_submodule(small.card.layers[0].name)
    block.unused = nn.Linear(2, 2)
    try:
        assert np.isfinite(SCORES["gradient"](small)).all()
    finally:
        del block.unused
