import json
from dataclasses import replace

import pytest

from layerwise.card.record import StackInfo
from layerwise.report.old.charts_control import control_charts, export_control_charts

NAMES = {
    "both-profiles",
    "slopes",
    "step-sizes",
    "readout-hf",
    "readout-residual",
    "readout-normed",
}
HOSTILE = "</script>${alert(1)}"


def test_a_chart_for_each_question(planted_control):
    assert set(control_charts(planted_control())) == NAMES


def test_without_step_sizes_there_is_no_chart_of_them(planted_control):
    assert set(control_charts(planted_control(steps=False))) == NAMES - {"step-sizes"}


def test_means_of_both_conditions_are_drawn_together(planted_control):
    control = planted_control(blocks=8)
    rows = control_charts(control)["both-profiles"]["datasets"]["means"]
    assert len(rows) == 16
    last = {row["condition"]: row["procrustes"] for row in rows if row["x"] == 7}
    for name, field in (("standard", "standard"), ("equal-step", "equal_step")):
        planted = [getattr(run, field).blocks[7].procrustes for run in control.runs]
        assert last[name] == pytest.approx(sum(planted) / 3, rel=1e-5)


def test_each_seed_is_a_thin_line_and_a_single_one_is_the_mean(planted_control):
    three, one = (
        control_charts(planted_control(seeds=seeds))["both-profiles"]["datasets"]["seeds"]
        for seeds in ((4, 7, 9), (4,))
    )
    assert len({(row["seed"], row["condition"]) for row in three}) == 6
    assert one == []


def test_lines_have_the_slopes_over_all_seeds(planted_control):
    control = planted_control(blocks=10)
    rows = control_charts(control)["both-profiles"]["datasets"]["lines"]
    for name, field in (("standard", "standard"), ("equal-step", "equal_step")):
        ends = [row for row in rows if row["condition"] == name]
        rise = (ends[-1]["line"] - ends[0]["line"]) / ((ends[-1]["x"] - ends[0]["x"]) / 10)
        assert rise == pytest.approx(control.slopes[field].slope, rel=1e-4)


def test_slopes_of_all_seeds_and_of_each(planted_control):
    control = planted_control(seeds=(4, 7))
    rows = control_charts(control)["slopes"]["datasets"]["slopes"]
    assert [row["label"] for row in rows] == [
        "standard, all seeds",
        "standard, seed 4",
        "standard, seed 7",
        "equal-step, all seeds",
        "equal-step, seed 4",
        "equal-step, seed 7",
    ]
    assert rows[3]["low"] == pytest.approx(control.slopes["equal_step"].low, rel=1e-5)
    assert rows[5]["slope"] == pytest.approx(control.runs[1].equal_step.slope, rel=1e-5)
    assert [row["pooled"] for row in rows] == [True, False, False] * 2


def test_one_seed_is_all_there_is(planted_control):
    rows = control_charts(planted_control(seeds=(4,)))["slopes"]["datasets"]["slopes"]
    assert [row["label"] for row in rows] == ["standard, seed 4", "equal-step, seed 4"]


def test_step_sizes_are_on_a_log_axis_with_the_rest_apart(planted_control):
    control = planted_control(blocks=5)
    spec = control_charts(control)["step-sizes"]
    rows = spec["datasets"]["steps"]
    standard = [row for row in rows if row["condition"] == "standard"]
    assert [row["x"] for row in standard] == [0, 1, 2, 3, 4, 6]
    assert standard[-1]["head"] == "all that is in no block · standard"
    planted = [group.median for group in control.runs[0].standard_steps]
    assert [row["step"] for row in standard] == pytest.approx(planted, rel=1e-5)
    scale = spec["layer"][-1]["encoding"]["y"]["scale"]
    assert scale["type"] == "log"
    assert scale["domain"][0] <= min(row["low"] for row in rows)
    assert scale["domain"][1] >= max(row["high"] for row in rows)


def test_each_tau_is_a_line_named_once(planted_control):
    control = planted_control()
    other = replace(control.runs[1], tau=3e-4)
    spec = control_charts(replace(control, runs=(control.runs[0], other)))["step-sizes"]
    (rules,) = (rows for name, rows in spec["datasets"].items() if name != "steps")
    assert [row["tau"] for row in rules] == [1.25e-4, 3e-4]
    assert [row["text"] for row in rules] == ["τ", ""]


def test_a_group_that_never_moved_or_is_of_another_model_is_left_out(planted_control):
    control = planted_control(blocks=3, seeds=(0,))
    steps = control.runs[0].standard_steps
    odd = (replace(steps[0], median=0.0, low=0.0), replace(steps[1], low=0.0))
    run = replace(control.runs[0], standard_steps=(*odd, replace(steps[2], row=99)))
    spec = control_charts(replace(control, runs=(run,)))["step-sizes"]
    rows = [row for row in spec["datasets"]["steps"] if row["condition"] == "standard"]
    assert [row["x"] for row in rows] == [1]
    assert rows[0]["low"] == rows[0]["step"]


def test_steps_of_two_stacks_stand_apart(planted_control):
    control = planted_control(blocks=4)
    stacks = tuple(StackInfo(name, 2, "Block", "sequential") for name in ("encoder", "decoder"))
    model = replace(control.standard.before, stacks=stacks)
    two = replace(control, standard=replace(control.standard, before=model))
    rows = control_charts(two)["step-sizes"]["datasets"]["steps"]
    assert [row["x"] for row in rows][:5] == [0, 1, 3, 4, 6]
    assert rows[2]["head"] == "decoder block 0 · standard"


def test_no_name_from_outside_is_in_a_specification(planted_control):
    control = planted_control(before=HOSTILE, after=HOSTILE, stack=HOSTILE, reason=HOSTILE)
    assert "alert" not in json.dumps(control_charts(control), allow_nan=False)


def test_exports_are_pictures(planted_control):
    files = export_control_charts(planted_control(blocks=4))
    assert {name for name in files if name.endswith(".svg")} == {f"chart-{n}.svg" for n in NAMES}
    assert all(
        content.startswith(b"\x89PNG" if name.endswith(".png") else b"<svg")
        for name, content in files.items()
    )
