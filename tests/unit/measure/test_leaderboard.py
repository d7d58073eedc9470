"""Trials as a leaderboard."""

import numpy as np
import pytest

from layerwise.measure.leaderboard import (
    compare_improvements,
    improvements,
    mean_of_random,
    rank_arms,
    reason,
    verdict_of,
)


@pytest.fixture
def arms(one_arm):
    return rank_arms(
        [
            one_arm("recommended", [0.30, 0.32, 0.31], kind="recommended", seconds=2.0),
            one_arm("top", [0.40, 0.42, 0.41], seconds=3.0),
            one_arm("level", [0.20, 0.44, 0.31]),
            one_arm("random-0", [0.10, 0.12, 0.11], kind="random"),
            one_arm("random-1", [0.20, 0.22, 0.21], kind="random"),
            one_arm("ski", [], failed="no attention"),
            one_arm("all", [0.50, 0.52, 0.51], kind="everywhere", equal=False, seconds=4.0),
        ]
    )


def test_the_best_is_first_and_what_failed_is_last(arms):
    names = [arm.name for arm in arms]
    assert names[0] == "all"
    assert names[1] == "top"
    assert names[-1] == "ski"
    assert {arm.name: arm.place for arm in arms} == {
        "all": None,
        "top": 1,
        "recommended": 3,
        "level": 2,
        "random-1": 4,
        "random-0": 5,
        "ski": None,
    }


def test_each_arm_is_held_against_the_recommended_one_seed_by_seed(arms):
    verdicts = {arm.name: arm.against.verdict for arm in arms if arm.against}
    assert verdicts == {
        "all": "better",
        "top": "better",
        "level": "no difference",
        "random-0": "worse",
        "random-1": "worse",
    }


def test_what_an_arm_keeps_and_costs_is_beside_adapters_everywhere(arms):
    found = {arm.name: arm.outcome for arm in arms if arm.outcome}
    assert found["recommended"].kept == pytest.approx(0.31 / 0.51)
    assert found["recommended"].step_ratio == pytest.approx(0.5)
    assert found["recommended"].low < 0.31 < found["recommended"].high


def test_without_adapters_everywhere_there_is_nothing_to_keep(one_arm):
    (arm,) = rank_arms([one_arm("recommended", [0.3], kind="recommended")])
    assert arm.outcome.kept is arm.outcome.step_ratio is arm.outcome.low is None
    assert arm.place == 1
    lost = one_arm("all", [-0.1], kind="everywhere", equal=False)
    pair = rank_arms([one_arm("recommended", [0.3], kind="recommended"), lost])
    assert pair[0].outcome.kept is None
    assert pair[0].outcome.step_ratio == 1.0


@pytest.mark.parametrize(
    ("low", "high", "seeds", "verdict"),
    [
        (0.1, 0.2, 3, "better"),
        (-0.2, -0.1, 3, "worse"),
        (-0.1, 0.1, 9, "no difference"),
        (0.0, 0.1, 9, "no difference"),
        (0.1, 0.2, 2, "no difference"),
        (None, None, 1, "no difference"),
    ],
)
def test_an_interval_that_holds_0_makes_no_difference(low, high, seeds, verdict):
    assert verdict_of(low, high, seeds=seeds) == verdict


def test_the_mean_random_draw_is_paired(arms):
    drawn = mean_of_random({arm.name: arm for arm in arms})
    assert drawn == pytest.approx([0.15, 0.17, 0.16])
    assert mean_of_random({}) is None


def test_the_reason_has_the_figures(arms):
    by_name = {arm.name: arm for arm in arms}
    recommended = by_name["recommended"]
    against = compare_improvements(improvements(recommended.trials), mean_of_random(by_name))
    told = reason(recommended, arms, against)
    assert told.startswith("The recommended placement is number 3 of 5 at equal budget; ")
    assert "its improvement is +0.15 (+0.15 to +0.15, 3 seeds): better" in told
    assert "keeps 61% of what adapters on all blocks improve, in 50% of their step time" in told
    assert "no random placement was drawn" in reason(recommended, arms, None)
    alone = compare_improvements(np.array([0.3]), np.array([0.1]))
    assert "is +0.2, from one seed" in reason(recommended, arms, alone)
