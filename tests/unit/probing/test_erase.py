"""Erasing by depth: a planted concept goes, another does not, and nothing is judged on its fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import layerwise as lw
from layerwise.errors import BadInputError, DataError
from layerwise.probing import erase
from layerwise.probing.erase import make_erasure
from layerwise.probing.mean_states import ReadoutSettings
from layerwise.probing.pairs import MinimalPair, pair_set
from layerwise.probing.record import ErasureSettings

QUICK = ErasureSettings(folds=4, draws=8, bootstrap=200)


def worded(count=24, *, length=6):
    """Pairs of the same words but one, w40 in the one and w41 in the other."""
    generator = np.random.default_rng(1)
    words = [[f"w{w}" for w in generator.integers(30, size=length)] for _ in range(count)]
    return pair_set(
        [MinimalPair(" ".join([*w, "w40"]), " ".join([*w, "w41"])) for w in words], source="made"
    )


@pytest.fixture(scope="module")
def erasure(tuning):
    return make_erasure(tuning.loaded("bert"), worded(), settings=QUICK)


def test_what_tells_the_members_apart_is_most_of_the_distance(erasure):
    assert [depth.index for depth in erasure.depths] == [0, 1]
    for depth in erasure.depths:
        assert depth.effect > 0.4
        assert depth.effect > 4 * depth.control
        assert depth.margin_low > 0.0
        assert depth.ordered == 1.0
        assert depth.effect_low <= depth.effect <= depth.effect_high
        assert depth.control_low <= depth.control <= depth.control_high
        assert depth.margin == pytest.approx(depth.effect - depth.control)
        assert depth.energy == pytest.approx(depth.control_energy, rel=1e-6)
        assert 0.0 < depth.top_variance < 1.0


def test_members_without_a_concept_have_nothing_erased(tuning):
    """Which of two unrelated texts is a, and which b, is chance: held-out pairs are no nearer."""
    generator = np.random.default_rng(2)
    texts = [" ".join(f"w{w}" for w in generator.integers(50, size=8)) for _ in range(120)]
    pairs = pair_set([MinimalPair(*texts[i : i + 2]) for i in range(0, 120, 2)], source="made")
    found = make_erasure(tuning.loaded("bert"), pairs, settings=QUICK)
    for depth in found.depths:
        assert depth.margin_low < 0.02
        assert 0.2 < depth.ordered < 0.8
        assert depth.effect_in_sample > depth.effect  # What a circular figure would have said.


def test_no_pair_is_judged_by_an_eraser_that_saw_it_or_its_group(tuning, monkeypatch):
    seen = []
    fit = erase.fit_eraser

    def watched(x, members):
        seen.append({tuple(row) for row in x.numpy().round(9)})
        return fit(x, members)

    monkeypatch.setattr(erase, "fit_eraser", watched)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(12, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    groups = np.array([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8])
    folds = erase._folds(groups, QUICK)
    parts = erase._fold_results(a, b, folds, QUICK)
    assert sorted(np.concatenate([part.rows for part in parts])) == list(range(12))
    for fold, rows in enumerate(seen):
        judged = {tuple(r) for r in torch.cat([a, b])[np.tile(folds == fold, 2)].numpy().round(9)}
        assert judged
        assert not judged & rows
    assert len(set(folds[:3])) == len(set(folds[10:])) == 1


def test_the_numbers_of_a_depth_are_those_of_its_pairs(tuning):
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(20, 6, dtype=torch.float64, generator=generator)
    b = a + torch.tensor([2.0, 0, 0, 0, 0, 0]) + 0.3 * torch.randn(20, 6, generator=generator)
    folds, weights = np.arange(20) % 4, np.ones((1, 20))
    found = erase._depth(0, 1.0, erase._fold_results(a, b, folds, QUICK), weights, groups=20)
    before, after = [], []
    for fold in range(4):
        inside = folds != fold
        x = torch.cat([a[inside], b[inside]])
        fitted = erase.fit_eraser(x, torch.arange(2).repeat_interleave(int(inside.sum())))
        difference = (b - a)[~inside]
        left = difference - torch.outer(difference @ fitted.reads, fitted.moves)
        before += difference.norm(dim=1).tolist()
        after += left.norm(dim=1).tolist()
    assert found.distance == pytest.approx(np.mean(before))
    assert found.effect == pytest.approx(1 - sum(after) / sum(before))
    assert found.effect_low == pytest.approx(found.effect)  # One replicate, that of the pairs.
    assert found.effect_median == pytest.approx(np.median(1 - np.divide(after, before)))


def test_standardised_features_forget_their_scale():
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(40, 4, dtype=torch.float64, generator=generator)
    b = a + torch.tensor([1.0, 0, 0, 0]) + 0.5 * torch.randn(40, 4, generator=generator)
    scale = torch.tensor([1.0, 1e4, 1e-3, 1.0], dtype=torch.float64)
    folds, weights = np.arange(40) % 4, np.ones((1, 40))
    settings = replace(QUICK, standardised=True)
    found = [
        erase._depth(0, 1.0, erase._fold_results(a * s, b * s, folds, settings), weights, groups=40)
        for s in (torch.ones(4, dtype=torch.float64), scale)
    ]
    assert found[0].effect == pytest.approx(found[1].effect)
    raw = erase._depth(
        0, 1.0, erase._fold_results(a * scale, b * scale, folds, QUICK), weights, groups=40
    )
    assert raw.top_variance > 0.999
    assert raw.overlap > 0.99  # A control that is no other direction.
    assert found[0].overlap < 0.9


def test_a_direction_that_holds_nearly_all_variance_is_told(tuning):
    loaded = tuning.loaded("llama")
    with torch.no_grad():
        loaded.model.model.layers[0].mlp.down_proj.weight[3] *= 1e4
    found = make_erasure(
        loaded, worded(), settings=QUICK, readout=ReadoutSettings(readout="residual")
    )
    assert any(
        "one direction holds over 80% of the variance at blocks 0, 1" in n for n in found.notes
    )
    standardised = replace(QUICK, standardised=True)
    assert not any(
        "one direction" in n for n in make_erasure(loaded, worded(), settings=standardised).notes
    )


def test_the_same_seed_gives_the_same_record_and_says_how_it_was_judged(tuning, erasure):
    again = make_erasure(tuning.loaded("bert"), worded(), settings=QUICK)
    assert again.depths == erasure.depths
    assert any("judged under an eraser fitted on the others" in note for note in erasure.notes)
    other = make_erasure(tuning.loaded("bert"), worded(), settings=replace(QUICK, seed=1))
    assert other.depths != erasure.depths


def test_pairs_that_read_the_same_are_left_out(tuning):
    readout = ReadoutSettings(max_length=6)
    with pytest.raises(DataError, match="read the same in 6 tokens: '24'; expected at least 10"):
        make_erasure(tuning.loaded("bert"), worded(), settings=QUICK, readout=readout)
    some = pair_set([*worded(12, length=2).pairs, *worded(10, length=9).pairs], source="made")
    found = make_erasure(tuning.loaded("bert"), some, settings=QUICK, readout=readout)
    assert found.pairs == 12
    assert "10 pairs whose members read the same in 6 tokens were left out" in found.notes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"folds": 1}, "value of folds: '1'; .*2 or more"),
        ({"draws": 0}, "value of draws: '0'; .*1 or more"),
        ({"folds": 25}, "more folds than pairs that share no text: '25'; expected at most 24"),
    ],
)
def test_settings_out_of_range(tuning, options, says):
    with pytest.raises(BadInputError, match=says):
        lw.erase(tuning.loaded("bert"), worded(), **options)


def test_frame_has_a_line_a_depth(erasure):
    assert erasure.frame().effect.tolist() == [depth.effect for depth in erasure.depths]
