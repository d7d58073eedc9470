"""The rule, over profiles whose slopes and intervals are written down by hand."""

from dataclasses import replace

import numpy as np
import pytest

from layerwise.errors import BadInputError
from layerwise.profile.verdict import judge, pair_profiles


@pytest.fixture
def profile(planted_profile):
    """Makes a profile with a slope, its interval and a noise floor."""
    base = planted_profile(blocks=6)

    def made(slope, low, high, *, noise=0.0):
        return replace(base, slope=slope, slope_low=low, slope_high=high, noise_floor=noise)

    return made


@pytest.fixture
def control(profile):
    """Judges pairs of (standard, equal-step), each a (slope, low, high), one a seed."""

    def made(*pairs, noise=0.0):
        runs = [
            pair_profiles(seed, profile(*s, noise=noise), profile(*e, noise=noise), tau=1e-3)
            for seed, (s, e) in enumerate(pairs)
        ]
        return judge(runs, provenance=runs[0].standard.provenance)

    return made


STANDARD = (0.4, 0.3, 0.5)
OFF = (0.0, 0.01, -0.01)


def around(slope):
    """A slope of each of three seeds, and its interval over probes."""
    return [(slope + off, slope + off - 0.05, slope + off + 0.05) for off in OFF]


def of_three(control, standard, equal_step, **more):
    return control(*zip(around(standard), around(equal_step), strict=True), **more)


@pytest.mark.parametrize(
    ("standard", "equal_step", "verdict", "sign"),
    [
        (0.4, 0.4, "intrinsic", "intrinsic"),
        (0.4, 0.3, "intrinsic", "intrinsic"),
        (0.4, 0.1, "artefact", "intrinsic"),
        (0.4, 0.0, "artefact", "artefact"),
        (0.4, -0.2, "artefact", "artefact"),
        (0.4, 0.2, "undecided", "intrinsic"),
        (0.4, 0.205, "undecided", "intrinsic"),
    ],
)
def test_the_verdict_is_by_what_is_left_beyond_half_of_the_slope(
    control, standard, equal_step, verdict, sign
):
    found = of_three(control, standard, equal_step)
    assert (found.verdict, found.sign) == (verdict, sign)
    assert found.difference.slope == pytest.approx(equal_step - 0.5 * standard)
    assert found.ratio == pytest.approx(equal_step / standard)


def test_the_share_is_an_argument(control):
    pairs = zip(around(0.4), around(0.1), strict=True)
    runs = control(*pairs).runs
    found = judge(runs, provenance=runs[0].standard.provenance, share=0.0)
    assert (found.verdict, found.difference.share) == ("intrinsic", 0.0)


@pytest.mark.parametrize("count", [1, 2])
def test_few_seeds_decide_nothing(control, count):
    found = control(*[(STANDARD, (0.6, 0.5, 0.7))] * count)
    assert found.verdict == "undecided"
    assert found.difference.low is None
    assert found.difference.more_seeds is None
    assert found.slopes["standard"].low is None
    assert "at least 3 decide" in found.reason
    assert "low" not in found.to_plain()["slopes"]["standard"]


def test_an_open_verdict_says_how_many_more_seeds_would_decide(control):
    pairs = [(STANDARD, (slope, 0.0, 1.0)) for slope in (0.5, 0.2, 0.3)]
    found = control(*pairs)
    assert found.verdict == "undecided"
    assert found.difference.more_seeds > 0
    assert f"about {found.difference.more_seeds} more seeds like these would decide" in found.reason
    level = control(*[(STANDARD, (slope, 0.0, 1.0)) for slope in (0.3, 0.1, 0.2)])
    assert level.difference.more_seeds is None
    assert "a hundred more seeds like these would not decide" in level.reason


@pytest.mark.parametrize(
    ("true", "right"),
    [(0.2, "undecided"), (0.1, "artefact"), (0.3, "intrinsic"), (0.0, "artefact")],
)
def test_wrong_verdicts_are_rare_at_any_true_slope(profile, true, right):
    """Simulated: seeds of either slope vary by 0.05, and half of the standard one is 0.2."""
    base, rng = profile(*STANDARD), np.random.default_rng(0)
    wrong, draws = 0, 600
    for slopes in rng.normal([0.4, true], 0.05, (draws, 3, 2)).tolist():
        runs = [
            pair_profiles(n, replace(base, slope=a), replace(base, slope=b), tau=1.0)
            for n, (a, b) in enumerate(slopes)
        ]
        verdict = judge(runs, provenance=base.provenance).verdict
        wrong += verdict not in {right, "undecided"}
    assert wrong / draws <= 0.05


@pytest.mark.parametrize("slope", [0.0, -0.3])
def test_where_the_standard_slope_gives_nothing_to_explain(control, slope):
    found = of_three(control, slope, 0.2)
    assert found.verdict == "undecided"
    assert "The slope under standard is not positive: there is no rise to explain." in found.reason


def test_saturated_profiles_are_undecided(control):
    found = of_three(control, 0.4, 0.4)
    (run, *rest) = found.runs
    far = [
        replace(r, equal_step=replace(
            r.equal_step, depths=tuple(replace(d, procrustes=0.8) for d in r.equal_step.depths)
        ))
        for r in (run, *rest)
    ]  # fmt: skip
    told = judge(far, provenance=found.provenance)
    assert told.verdict == "undecided"
    assert "Under equal-step each depth moved by more than 0.75 (0.80 at least)" in told.reason


def test_movement_is_told_and_what_is_not_comparable(control):
    found = of_three(control, 0.4, 0.4)
    assert found.movement == pytest.approx(1.0)
    assert "moved 1 times as far under equal-step." in found.reason
    base = found.runs[0].equal_step
    farther = replace(
        base, depths=tuple(replace(d, procrustes=5 * d.procrustes) for d in base.depths)
    )
    run = pair_profiles(0, found.runs[0].standard, farther, tau=1e-3)
    told = judge([run], provenance=found.provenance)
    assert told.movement == pytest.approx(5.0)
    assert "5 times as far under equal-step, which is no comparable movement" in told.reason


def test_no_ratio_to_a_slope_of_zero(control):
    found = control(((0.0, 0.0, 0.0), (0.2, 0.1, 0.3)))
    assert found.ratio is None
    assert found.runs[0].ratio is None
    assert "ratio" not in found.reason
    assert "ratio" not in found.to_plain()


def test_the_figures_are_in_the_reason(control):
    found = of_three(control, 0.4, 0.25)
    low, high = found.slopes["equal_step"].low, found.slopes["equal_step"].high
    assert f"0.25 ({low:.3g} to {high:.3g}) under equal-step" in found.reason
    assert "over 3 seeds, 0, 1, 2; ratio 0.625" in found.reason


def test_changes_below_the_noise_floor_are_named(control):
    quiet = control((STANDARD, (0.2, 0.1, 0.3)))
    assert "noise floor" not in quiet.reason
    loud = control(*[(STANDARD, (0.2, 0.1, 0.3))] * 2, noise=9.0).reason
    for name in ("standard", "equal-step"):
        assert f"Under {name}, no depth moved further than the noise floor of 9 in 2 of 2" in loud


def test_what_is_not_in_the_noise_is_not_said_to_be(control):
    found = control((STANDARD, (0.2, 0.1, 0.3)))
    (run,) = found.runs
    noisy = replace(run, equal_step=replace(run.equal_step, noise_floor=9.0))
    reason = judge([noisy], provenance=found.provenance).reason
    assert "Under equal-step, no depth moved further than the noise floor of 9: " in reason
    assert "Under standard, no depth" not in reason


def test_notes_are_kept_once(control):
    runs = control((STANDARD, (0.2, 0.1, 0.3))).runs
    made = judge(runs, provenance=runs[0].standard.provenance, notes=["a", "b", "a"])
    assert made.notes == ("a", "b")


def test_profiles_of_different_probes_are_not_compared(profile):
    """Fewer of the probes, or shorter ones, would be another slope of the same change."""
    one = profile(*STANDARD)
    for other in ({"sha256": "5a" * 32}, {"max_length": 32}):
        strange = replace(one, probes=replace(one.probes, **other))
        run = pair_profiles(0, one, strange, tau=1e-3)
        with pytest.raises(BadInputError, match="profiles of a control of different probes"):
            judge([run], provenance=one.provenance)
