"""Trials as a leaderboard."""

import numpy as np
import pytest
from scipy import stats

from layerwise.measure.leaderboard import (
    beside_random,
    improvements,
    random_draws,
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


def test_of_a_gain_that_may_be_none_nothing_is_kept(one_arm):
    """Where the interval of what all blocks gain holds 0, a ratio to it would be noise."""
    unsure = one_arm("all", [0.3, -0.1, 0.05], kind="everywhere", equal=False)
    found = rank_arms([one_arm("recommended", [0.3, 0.3, 0.31], kind="recommended"), unsure])
    by_name = {arm.name: arm for arm in found}
    assert by_name["recommended"].outcome.kept is None
    assert "so there is nothing to keep" in reason(by_name["recommended"], found, None)


def test_without_adapters_everywhere_there_is_nothing_to_keep(one_arm):
    (arm,) = rank_arms([one_arm("recommended", [0.3], kind="recommended")])
    assert arm.outcome.kept is arm.outcome.step_ratio is arm.outcome.low is None
    assert arm.place == 1
    lost = one_arm("all", [-0.1], kind="everywhere", equal=False)
    pair = rank_arms([one_arm("recommended", [0.3], kind="recommended"), lost])
    assert pair[0].outcome.kept is None
    assert pair[0].outcome.step_ratio == 1.0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.2, "better"),
        (-0.2, -0.1, "worse"),
        (-0.1, 0.1, "no difference"),
        (0.0, 0.1, "no difference"),
        (None, None, "no difference"),
    ],
)
def test_an_interval_that_holds_0_makes_no_difference(low, high, verdict):
    assert verdict_of(low, high) == verdict


def test_a_claim_over_random_placements_counts_what_draws_differ_by():
    own = np.array([0.30, 0.32, 0.31])
    near = [np.full(3, m) for m in (0.20, 0.21, 0.19, 0.20)]
    wide = [np.full(3, m) for m in (0.05, 0.35, 0.10, 0.30)]
    assert beside_random(own, near).verdict == "better"
    found = beside_random(own, wide)
    assert (found.verdict, found.difference) == ("no difference", pytest.approx(0.11))
    low, high = stats.t.interval(0.95, 3, 0.2, np.std([0.05, 0.35, 0.1, 0.3], ddof=1) * 1.25**0.5)
    assert (found.low, found.high) == pytest.approx((0.31 - high, 0.31 - low))
    assert beside_random(own, near[:2]).low is None
    assert beside_random(own, []) is None


def test_of_many_draws_the_rank_decides():
    own = np.array([0.30, 0.32, 0.31])
    draws = [np.full(3, 0.2 + 0.005 * n) for n in range(19)]
    assert beside_random(own, draws).verdict == "better"
    assert beside_random(own, [*draws, np.full(3, 0.32)]).verdict == "no difference"
    assert beside_random(-own, draws).verdict == "worse"


@pytest.mark.parametrize("draws", [5, 19])
def test_a_random_placement_is_seldom_called_better_than_random_ones(draws):
    """The null: what is recommended is one more draw. 5 % are beyond, on either side."""
    rng, told = np.random.default_rng(draws), []
    for _ in range(800):
        placements = rng.normal(0.2, 0.05, draws + 1)[:, None] + rng.normal(0, 0.02, (draws + 1, 3))
        told.append(beside_random(placements[0], [*placements[1:]]).verdict)
    assert told.count("better") / 800 <= 0.075
    assert told.count("worse") / 800 <= 0.075


def test_the_reason_has_the_figures(arms):
    by_name = {arm.name: arm for arm in arms}
    recommended = by_name["recommended"]
    draws = random_draws(by_name)
    assert sorted(float(draw.mean()) for draw in draws) == pytest.approx([0.11, 0.21])
    draws.append(np.array([0.15, 0.16, 0.14]))
    against = beside_random(improvements(recommended.trials), draws)
    told = reason(recommended, arms, against)
    assert told.startswith("The recommended placement is number 3 of 5 at equal budget; ")
    ends = f"({against.low:+.3g} to {against.high:+.3g}, 2 draws)"
    told_of_draws = f"its improvement is {against.difference:+.3g} {ends}: {against.verdict}"
    assert f"beside a random placement {told_of_draws}" in told
    assert "keeps 61% of what adapters on all blocks improve, in 50% of their step time" in told
    assert "no random placement was drawn" in reason(recommended, arms, None)
    few = beside_random(improvements(recommended.trials), draws[:1])
    assert "by 2 random draws: too few to say" in reason(recommended, arms, few)
