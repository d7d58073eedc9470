"""The rule, over profiles whose slopes and intervals are written down by hand."""

from dataclasses import replace

import pytest

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
INCLUDES = "with an interval that includes 0"


@pytest.mark.parametrize(
    ("equal_step", "verdict", "ratio", "said"),
    [
        ((0.2, 0.1, 0.3), "intrinsic", 0.5, "above 0 with its whole interval"),
        ((0.8, 0.001, 1.0), "intrinsic", 2.0, "above 0 with its whole interval"),
        ((0.2, 0.0, 0.4), "artefact", 0.5, INCLUDES),
        ((0.2, -0.1, 0.5), "artefact", 0.5, INCLUDES),
        ((0.0, 0.0, 0.0), "artefact", 0.0, INCLUDES),
        ((-0.1, -0.3, 0.1), "artefact", -0.25, INCLUDES),
        ((-0.2, -0.3, -0.1), "artefact", -0.5, "below 0"),
    ],
)
def test_the_verdict_of_one_seed(control, equal_step, verdict, ratio, said):
    found = control((STANDARD, equal_step))
    assert (found.verdict, found.runs[0].verdict) == (verdict, verdict)
    assert found.ratio == found.runs[0].ratio == pytest.approx(ratio)
    assert said in found.reason
    assert "no rise to explain" not in found.reason
    assert (found.slopes["equal_step"].low, found.slopes["equal_step"].high) == equal_step[1:]


@pytest.mark.parametrize(
    ("standard", "said"),
    [
        ((0.2, -0.1, 0.5), "The slope under standard cannot be told from 0: there is no rise"),
        ((0.0, 0.0, 0.0), "The slope under standard is not positive: there is no rise"),
        ((-0.3, -0.4, -0.2), "The slope under standard is not positive: there is no rise"),
    ],
)
def test_where_the_standard_slope_gives_nothing_to_explain(control, standard, said):
    assert said in control((standard, (0.2, 0.1, 0.3))).reason


def test_no_ratio_to_a_slope_of_zero(control):
    found = control(((0.0, 0.0, 0.0), (0.2, 0.1, 0.3)))
    assert found.ratio is None
    assert found.runs[0].ratio is None
    assert "ratio" not in found.reason
    assert "ratio" not in found.to_plain()


def test_the_figures_are_in_the_reason(control):
    reason = control(((0.4, 0.3, 0.5), (0.25, 0.11, 0.33))).reason
    assert "0.25 (0.11 to 0.33)" in reason
    assert "0.4 (0.3 to 0.5)" in reason
    assert "over probe inputs; seed 0; ratio 0.625" in reason


def test_seeds_that_agree_are_pooled(control):
    found = control(*[(STANDARD, (0.2 + d, 0.1 + d, 0.3 + d)) for d in (0.0, 0.01, -0.01)])
    equal_step = found.slopes["equal_step"]
    assert equal_step.slope == pytest.approx(0.2)
    assert 0.0 < equal_step.low < 0.1
    assert equal_step.high > 0.3
    assert found.slopes["standard"].low == pytest.approx(0.3)
    assert (found.verdict, found.ratio) == ("intrinsic", pytest.approx(0.5))
    assert found.seeds == (0, 1, 2)
    assert (found.standard, found.equal_step) == (found.runs[0].standard, found.runs[0].equal_step)
    assert "over probe inputs and 3 seeds; seeds 0, 1, 2" in found.reason


def test_seeds_that_disagree_overrule_what_each_says_alone(control):
    found = control((STANDARD, (0.2, 0.1, 0.3)), (STANDARD, (0.6, 0.5, 0.7)))
    assert [run.verdict for run in found.runs] == ["intrinsic", "intrinsic"]
    assert found.verdict == "artefact"
    assert found.slopes["equal_step"].low < 0
    assert "Each seed alone would be intrinsic; 2 that differ this much are too few" in found.reason


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
