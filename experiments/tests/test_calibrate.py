"""Calibration on planted improvements: what is true is found, and what is noise is called so."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from laboratory.agreement import Strata, ceiling, row_spearman
from laboratory.calibrate import calibrate, set_table
from laboratory.calibration import Calibration
from laboratory.predictors import PREDICTORS
from laboratory.run_log import SetRun
from laboratory.sets import random_sets
from layerwise.errors import BadInputError
from layerwise.measure.trial import Trial
from layerwise.signals.ranks import spearman


def planted_card(small_card, *, seed=0):
    """Twelve blocks with gradients of very different size, in no order of depth."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.normal(size=12))
    gradients = scales[:, None, None] * (rng.normal(size=(12, 10, 30)) + 0.5)
    gram = np.einsum("lid,ljd->lij", gradients, gradients)
    size = np.sqrt(np.square(gradients).mean(axis=1, keepdims=True))
    card = small_card(gram=gram, residual_norm=list(1.0 + rng.random(12)))
    scaled = np.einsum("lid,ljd->lij", gradients / size, gradients)
    return replace(card, arrays={"gram": gram, "adam_gram": scaled})


def run(rows, seed, improvement, **options):
    trial = Trial(seed, 1e-3, 3.0, 3.0 - improvement, 0.1, 1, 10, 4, 100)
    return SetRun("pair", "random", rows, seed, 8, 4, 16, trial, "cpu", "2026", **options)


def runs(card, truth, *, noise=0.0, seeds=3, sets=24, size=3, rng_seed=0):
    """Runs whose improvement is `truth(rows)` and noise, in units of the truth's spread."""
    rng = np.random.default_rng(rng_seed)
    chosen = random_sets(range(12), size=size, count=sets)
    true = np.array([truth(rows) for rows in chosen])
    spread = true.std()
    return [
        run(rows, seed, float(value / spread + noise * rng.normal()))
        for rows, value in zip(chosen, true, strict=True)
        for seed in range(seeds)
    ]


@pytest.fixture
def by_gain(small_card):
    """Three pairs in which the sum of Adam's gains is the truth, with some noise."""
    pairs = []
    for i in range(3):
        card = planted_card(small_card, seed=i)
        truth = partial(PREDICTORS["adam-sum"], card, damping=1.0)
        made = runs(card, truth, noise=0.2, rng_seed=i)
        pairs.append(set_table(card, [replace(r, pair=f"pair {i}") for r in made]))
    return pairs


def test_the_true_predictor_is_preferred_and_beats_geometry(by_gain):
    found = calibrate(by_gain)
    scores = {family.name: family.left_out for family in found.families}
    assert scores["adam-sum"] > 0.9
    assert max(scores["lowest"], scores["spread"]) < 0.6
    assert not PREDICTORS[found.preferred].is_geometry
    assert found.beats_geometry
    assert 0.0 < found.margin_low < found.margin < found.margin_high
    assert [x.pair for x in found.left_out] == ["pair 0", "pair 1", "pair 2"]


def test_where_depth_is_the_truth_geometry_is_preferred(small_card):
    pairs = [
        set_table(card, runs(card, lambda s: -min(s) + 0.01 * sum(s), noise=0.1, rng_seed=i))
        for i, card in enumerate(planted_card(small_card, seed=s) for s in range(3))
    ]
    found = calibrate(pairs)
    assert PREDICTORS[found.preferred].is_geometry
    assert not found.beats_geometry
    assert found.margin_low < found.margin < 0.0


def test_a_calibration_is_saved_and_read_back(by_gain, tmp_path):
    found = calibrate(by_gain)
    (tmp_path / "calibration.json").write_bytes(found.to_json())
    assert Calibration.load(tmp_path) == found
    assert calibrate(by_gain).to_plain() | {"provenance": 0} == found.to_plain() | {"provenance": 0}


def test_damping_is_recorded_and_judged_on_other_sets_than_it_was_chosen_on(by_gain):
    scores = {score.name: score for score in calibrate(by_gain[:1]).pairs[0].scores}
    assert list(scores) == list(PREDICTORS)
    for name, score in scores.items():
        assert (score.damping is not None) == PREDICTORS[name].is_damped
        assert (score.held_out is not None) == PREDICTORS[name].is_damped
        assert (score.over_cost is not None) == PREDICTORS[name].is_gain
        assert score.low <= score.spearman <= score.high
    assert scores["adam-gain"].held_out <= scores["adam-gain"].spearman + 0.02


def test_one_pair_has_nothing_to_be_left_out_of(by_gain):
    found = calibrate(by_gain[:1])
    assert found.left_out == ()
    assert found.margin is None
    assert not found.beats_geometry
    assert all(family.left_out is None for family in found.families)


def test_a_card_without_timings_gives_no_correlation_beside_cost(small_card):
    card = planted_card(small_card)
    untimed = replace(card, layers=tuple(replace(r, forward_seconds=None) for r in card.layers))
    (pair,) = calibrate([set_table(untimed, runs(card, sum))]).pairs
    assert all(s.over_cost is None and s.per_second is None for s in pair.scores)


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_the_ceiling_is_what_the_truth_itself_reaches(noise):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=1000)
    improvements = truth[:, None] + noise * rng.normal(size=(1000, 3))
    strata = Strata((np.arange(500), np.arange(500, 1000)))
    found = ceiling(strata, improvements)
    reached = strata.agreement(truth, improvements.mean(axis=1))
    assert found.ceiling == pytest.approx(reached, abs=0.04)
    assert found.low < found.ceiling < found.high


def test_seeds_that_do_not_agree_leave_no_ceiling():
    flat = np.array([[0.0, 1.0], [1.0, 0.0], [0.4, 0.6], [0.6, 0.4], [0.5, 0.5]])
    found = ceiling(Strata((np.arange(5),)), flat)
    assert (found.between_seeds, found.reliability, found.ceiling) == (-1.0, 0.0, 0.0)
    assert ceiling(Strata((np.arange(5),)), flat[:, :1]) is None


def test_many_rows_at_once_are_one_by_one():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 6, size=(2, 20, 9)).astype(np.float64)
    first[3] = 1.0
    one_by_one = [spearman(a, b) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(row_spearman(first, second), one_by_one, atol=1e-12)
    assert row_spearman(first, second)[3] == 0.0


def test_sets_are_ranked_among_those_of_their_size():
    sets = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    larger_gain_more = np.array([3.0, 2.0, 1.0, 13.0, 12.0, 11.0])
    by_rows = np.array([0.0, 1.0, 2.0, 0.5, 1.0, 1.5])
    assert Strata.of(sets).agreement(by_rows, larger_gain_more) == pytest.approx(-1.0)


def test_sets_that_lack_a_seed_are_left_out(small_card):
    card = planted_card(small_card)
    made = runs(card, sum)
    pair = set_table(card, made[:-1])
    assert (len(pair.sets), pair.left_out, pair.improvements.shape) == (23, 1, (23, 3))


def test_a_seed_that_a_study_was_cut_short_in_takes_no_sets_with_it(small_card):
    card = planted_card(small_card)
    made = [run for run in runs(card, sum) if run.seed < 2 or run.rows[0] == 0]
    assert 0 < sum(run.seed == 2 for run in made) < 20
    pair = set_table(card, made)
    assert (pair.seeds, len(pair.sets), pair.left_out) == ((0, 1), 24, 0)


def test_runs_of_several_ways_are_refused(small_card):
    card = planted_card(small_card)
    made = runs(card, sum)
    with pytest.raises(BadInputError, match="runs of random sets to calibrate with"):
        set_table(card, [*made, replace(made[0], rank=4)])
    with pytest.raises(BadInputError, match="runs of single sets to calibrate with"):
        set_table(card, made, kind="single")


def test_too_few_sets_are_refused(small_card):
    card = planted_card(small_card)
    with pytest.raises(BadInputError, match="under every seed: '4'; expected at least 5"):
        set_table(card, runs(card, sum, sets=4))


def test_rows_that_the_card_does_not_have_are_refused(small_card):
    made = runs(planted_card(small_card), sum)
    with pytest.raises(BadInputError, match="row of a run that its card does not have"):
        set_table(small_card(6), made)


def test_no_pair_is_refused():
    with pytest.raises(BadInputError, match="no pair of model and text"):
        calibrate([])
