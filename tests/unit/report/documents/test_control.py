import json
from dataclasses import replace

import pytest

from layerwise.profile.record import Control
from layerwise.report import charts, document, frames, html, text
from layerwise.report.blocks import Strip
from support.cards import PROVENANCE


def verdict(control):
    return document(control).blocks[0]


def test_an_intrinsic_control(planted_control):
    told = verdict(planted_control(reason="Because of planted slopes."))
    assert told.text.startswith("Intrinsic: ")
    assert list(told.reasons) == [
        "Because of planted slopes.",
        (
            "Read by its sign alone, as arXiv 2604.17177 does, the slope under equal-step is "
            "positive, intrinsic; it is positive in 3 of 3 seeds."
        ),
        "Training loss ended at 2.32 under standard and 2.41 under equal-step.",
    ]


def test_an_artefact_and_one_that_is_open(planted_control):
    assert verdict(planted_control(equal=0.0)).text.startswith("Gradient artefact: ")
    for open_one in (planted_control(seeds=(0,)), planted_control(equal=0.0, steepness=0.0)):
        assert verdict(open_one).text.startswith("Undecided: ")


def test_an_open_control_has_no_interval_over_seeds_and_draws_all_the_same(planted_control):
    control = planted_control(seeds=(0, 1))
    assert "no interval of fewer than three seeds" in text(control)
    assert html(control)
    rows = document(control).charts()["slopes"].rows
    assert not any(row["pooled"] for row in rows)


def test_a_record_of_the_first_schema_says_what_its_verdict_meant(planted_control, tmp_path):
    plain = planted_control().to_plain()
    for key in ("difference", "movement", "sign"):
        del plain[key]
    old = {**plain, "schema": "layerwise/control/1", "verdict": "artefact"}
    (tmp_path / "control.json").write_text(json.dumps(old))
    found = Control.load(tmp_path)
    assert found.verdict == "artefact"
    assert "made by an earlier rule" in found.notes[-1]
    assert "Read by its sign" not in text(found)


def test_what_was_not_recorded_is_not_told(planted_control):
    control = planted_control(losses=False, steps=False)
    assert len(verdict(control).reasons) == 2
    assert "The runs did not record their step sizes." in html(control).decode()
    assert "step-sizes" not in document(control).charts()
    assert "standard_loss" not in frames(control)["runs"]


def test_each_seed_and_all_of_them_are_rows(planted_control):
    control = planted_control()
    table = document(control).tables()["runs"]
    assert [row["seed"] for row in table.rows] == ["0", "1", "2", "all"]
    assert table.marked == {3}
    slopes = [run.standard.slope for run in control.runs]
    assert [row["standard"] for row in table.rows] == [*slopes, control.slopes["standard"].slope]
    assert table.rows[3]["equal_step_low"] == control.slopes["equal_step"].low
    assert len(document(planted_control(seeds=(0,))).tables()["runs"].rows) == 1


def test_means_are_over_the_seeds(planted_control):
    control = planted_control()
    block = frames(control)["blocks"].iloc[29]
    mean = sum(run.equal_step.blocks[29].procrustes for run in control.runs) / 3
    assert block["equal_step_change"] == pytest.approx(mean)
    rows = document(control).charts()["readout-residual"].rows
    assert rows[-1]["procrustes"] == pytest.approx(0.9 * mean)
    strips = [b for b in document(control).blocks if isinstance(b, Strip)]
    assert [strip.label for strip in strips] == ["standard", "equal-step"]
    assert strips[0].most == strips[1].most == max(strips[0].values)


def test_steps_over_seeds_are_middle_and_outermost(planted_control):
    control = planted_control()
    planted = control.runs[0].standard_steps[0]
    widened = replace(planted, low=1e-9, high=1.0)
    first = replace(control.runs[0], standard_steps=(widened,))
    made = document(replace(control, runs=(first, *control.runs[1:])))
    row = made.charts()["step-sizes"].rows[0]
    assert (row["step"], row["low"], row["high"]) == (planted.median, 1e-9, 1.0)
    assert frames(control)["blocks"]["standard_step"][0] == planted.median


def test_the_rest_has_a_place_and_steps_of_0_have_none(planted_control):
    rows = document(planted_control()).charts()["step-sizes"].rows
    assert [(row["x"], row["index"]) for row in rows if "no block" in row["head"]] == [
        (31, None), (31, None),
    ]  # fmt: skip
    control = planted_control(seeds=(0,))
    still = replace(control.runs[0].standard_steps[0], median=0.0)
    run = replace(control.runs[0], standard_steps=(still,))
    rows = document(replace(control, runs=(run,))).charts()["step-sizes"].rows
    assert all(row["condition"] == "equal-step" for row in rows)


def test_slopes_are_drawn_over_all_seeds_and_seed_by_seed(planted_control):
    rows = document(planted_control()).charts()["slopes"].rows
    names = [row["label"] for row in rows][:4]
    assert names == [f"standard, {s}" for s in ("all seeds", "seed 0", "seed 1", "seed 2")]
    assert [row["pooled"] for row in rows] == [True, False, False, False] * 2
    alone = document(planted_control(seeds=(7,))).charts()
    assert [row["label"] for row in alone["slopes"].rows] == [
        "standard, seed 7", "equal-step, seed 7",
    ]  # fmt: skip
    assert alone["both-profiles"].faint == []


def test_without_runs_the_first_profiles_stand_for_them(planted_control):
    control = replace(planted_control(), runs=())
    html(control)
    assert list(frames(control)["readouts"]) == ["readout", "slope", "slope low", "slope high"]


def test_notes_and_untrained_modules_of_all_profiles_once(planted_control):
    control = planted_control(notes=("of the control",), untrained=("a.b",))
    run = replace(control.runs[1], standard=replace(control.runs[1].standard, notes=("of a run",)))
    said = text(replace(control, runs=(control.runs[0], run, control.runs[2])), width=120)
    assert said.splitlines()[-2:] == ["- note: of the control", "- note: of a run"]
    assert "1 module never trained" in said
    assert said.count("a.b") == 1


def test_the_page_has_data_models_and_hashes(planted_control, read_page, unsaid):
    control = planted_control()
    slope, low, high = (f"{end:.3f}" for end in vars(control.slopes["standard"]).values())
    assert not unsaid(
        read_page(html(control)).said,
        "trained on 1,920 examples of reviews.csv, causal-lm",
        f"Slope, standard {slope} {low} to {high}, 95 % interval",
        "After equal-step",
        "equal-step 2: model.safetensors " + "c7" * 32,
        PROVENANCE.command,
    )


@pytest.mark.slow  # Pictures take seconds.
def test_charts_can_be_exported(planted_control):
    names = {"both-profiles", "slopes", "step-sizes", "readout-hf", "readout-residual"}
    assert {f"chart-{name}.svg" for name in names} < set(charts(planted_control(blocks=3)))
