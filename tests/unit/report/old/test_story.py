from dataclasses import replace

import numpy as np
import pytest

from layerwise.profile.record import Slope
from layerwise.report.old.story import (
    condition_profiles,
    control_headline,
    control_reasons,
    every_block,
    every_note,
    every_untrained,
    mean_changes,
    mean_loss,
    moved,
    moved_most,
    number,
    percent,
    profile_headline,
    profile_reasons,
    profile_title,
    readouts,
    slope_text,
    span,
    step_groups,
    with_interval,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.41234, "0.412"),
        (-0.05, "-0.0500"),
        (0.0042, "0.00420"),
        (0.000125, "0.000125"),
        (2.5e-6, "2.50 ×10⁻⁶"),
        (2.314, "2.31"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert number(value) == text


def test_an_interval_is_in_the_style_of_its_centre():
    assert with_interval(0.3892, 0.36, 0.4195) == "0.389 (0.360 to 0.419)"
    assert with_interval(0.00408, 0.00109, 0.00644) == "0.00408 (0.00109 to 0.00644)"
    assert with_interval(2.5e-6, -1e-6, 6e-6) == "2.50 (-1.00 to 6.00) ×10⁻⁶"


def test_a_number_and_its_ends_are_in_one_style_apart_too():
    assert span(0.00202, -1.13e-5, 0.00393) == ("0.00202", "-0.00001 to 0.00393")
    assert span(2.5e-6, -1e-6, 6e-6) == ("2.50 ×10⁻⁶", "-1.00 to 6.00 ×10⁻⁶")


def test_shares_are_whole_percentages():
    assert percent(0.4149) == "41 %"


def test_a_profile_that_rises_says_so_with_its_figures(planted_profile):
    profile = planted_profile()
    assert profile_headline(profile) == "Change rises over depth: block 29 moved most."
    far, steep, agree = profile_reasons(profile)
    assert "reaches 0.400 at block 29, 100 times the noise floor of 0.00400" in far
    assert slope_text(profile) in steep
    assert percent(profile.width[-1]) in steep
    assert "an even profile would hold 14 %" in steep
    assert agree.startswith("The readouts agree on the direction: slopes hf 0.389")


@pytest.mark.parametrize(
    ("steepness", "spread", "words"),
    [(-0.04, 0.01, "falls over depth: block 0"), (0.01, 0.03, "has no clear direction over depth")],
)
def test_a_profile_may_fall_or_have_no_direction(planted_profile, steepness, spread, words):
    assert words in profile_headline(planted_profile(steepness=steepness, spread=spread))


def test_a_rise_of_the_last_depth_alone_is_called_so(planted_profile):
    profile = planted_profile(steepness=-0.02)
    last = replace(profile.depths[-1], procrustes=0.5)
    profile = replace(
        profile,
        depths=(*profile.depths[:-1], last),
        blocks=(*profile.blocks[:-1], replace(profile.blocks[-1], procrustes=0.5)),
        slope=0.2,
        slope_low=0.1,
        slope_high=0.3,
    )
    assert profile_headline(profile) == (
        "Change rises at the last depth alone: block 29 moved most."
    )
    six = [(depth.relative, depth.procrustes) for depth in profile.depths[:-1]]
    slope = np.polyfit(*zip(*six, strict=True), 1)[0]
    assert f"Without the last depth the slope is {slope:.4f}." in profile_reasons(profile)[1]


def test_nothing_moved_is_an_answer(still_profile):
    profile = still_profile()
    assert not moved(profile)
    assert profile_headline(profile).startswith("Nothing moved: ")
    assert profile_reasons(profile) == []


def test_a_change_within_the_noise_is_no_change(planted_profile):
    profile = planted_profile(noise=0.5)
    assert not moved(profile)
    assert profile_headline(profile) == "Nothing moved beyond the noise of the probes."
    assert "0.8 times the noise floor" in profile_reasons(profile)[0]


def test_halves_that_agree_leave_no_floor(planted_profile):
    assert "halves of the probes agree" in profile_reasons(planted_profile(noise=0.0))[0]


def test_readouts_that_disagree_are_told(planted_profile):
    reasons = profile_reasons(planted_profile(scales={"hf": 1.0, "residual": 0.05, "normed": 1.0}))
    assert "it rises under hf, it has no clear direction under residual" in reasons[-1]


def test_one_readout_alone_agrees_with_nothing(planted_profile):
    assert len(profile_reasons(planted_profile(scales={"hf": 1.0}))) == 2


def test_readouts_come_in_one_order_and_strangers_do_not(planted_profile):
    profile = planted_profile(scales={"normed": 1.0, "../x": 1.0, "hf": 1.0})
    assert list(readouts(profile)) == ["hf", "normed"]


def test_a_title_names_both_models(planted_profile):
    profile = planted_profile(before="org/base", after="/somewhere/tuned")
    assert profile_title(profile) == "org/base → tuned"


def test_without_all_blocks_the_seven_depths_stand_for_them(planted_profile):
    profile = replace(planted_profile(), blocks=())
    assert every_block(profile) == profile.depths
    assert moved_most(profile).index == 29


def test_an_intrinsic_control(planted_control):
    control = planted_control(reason="Because of planted slopes.")
    assert control_headline(control).startswith("Intrinsic: ")
    assert control_reasons(control) == [
        "Because of planted slopes.",
        "Each of the 3 seeds alone gives the same verdict.",
        "Training loss ended at 2.32 under standard and 2.41 under equal-step.",
    ]


def test_an_artefact_and_one_with_nothing_to_explain(planted_control):
    assert control_headline(planted_control(equal=0.0)).startswith("Gradient artefact: ")
    flat = planted_control(equal=0.0, steepness=0.0)
    assert "there is no rise to explain" in control_headline(flat)


def test_seeds_that_disagree_are_counted(planted_control):
    control = planted_control()
    first = replace(control.runs[0], verdict="artefact")
    assert (
        "2 of 3 seeds alone"
        in control_reasons(replace(control, runs=(first, *control.runs[1:])))[1]
    )


def test_one_seed_is_no_interval_over_runs(planted_control):
    assert "over probe inputs, not over runs" in control_reasons(planted_control(seeds=(0,)))[1]


def test_missing_losses_are_not_told(planted_control):
    control = planted_control(losses=False)
    assert mean_loss(control, "standard") is None
    assert len(control_reasons(control)) == 2


def test_means_are_over_the_seeds(planted_control):
    control = planted_control()
    profiles = condition_profiles(control, "equal_step")
    means = mean_changes(profiles)
    assert means[29] == pytest.approx(sum(p.blocks[29].procrustes for p in profiles) / 3)
    residual = mean_changes(profiles, "residual")
    assert residual[29] == pytest.approx(0.9 * means[29])


def test_without_runs_the_first_profiles_stand_for_them(planted_control):
    control = replace(planted_control(), runs=())
    assert condition_profiles(control, "standard") == [control.standard]


def test_steps_over_seeds_are_middle_and_outermost(planted_control):
    control = planted_control()
    group = step_groups(control, "standard")[0]
    planted = [run.standard_steps[0] for run in control.runs]
    assert group.median == planted[0].median
    widened = replace(planted[0], low=1e-9, high=1.0)
    first = replace(control.runs[0], standard_steps=(widened,))
    found = step_groups(replace(control, runs=(first, *control.runs[1:])), "standard")[0]
    assert (found.median, found.low, found.high) == (planted[0].median, 1e-9, 1.0)


def test_notes_and_untrained_modules_of_all_profiles_once(planted_control):
    control = planted_control(notes=("of the control",), untrained=("a.b",))
    run = replace(control.runs[1], standard=replace(control.runs[1].standard, notes=("of a run",)))
    control = replace(control, runs=(control.runs[0], run, control.runs[2]))
    assert every_note(control) == ("of the control", "of a run")
    assert every_untrained(control) == ("a.b",)


def test_slope_of_a_level_standard_has_its_direction(planted_control):
    control = planted_control(equal=0.0)
    falling = replace(control, slopes=control.slopes | {"standard": Slope(-0.3, -0.4, -0.2)})
    assert "no rise to explain" in control_headline(falling)
