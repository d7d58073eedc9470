import json
from dataclasses import replace

import pytest

from layerwise.card.record import StackInfo
from layerwise.report.old.page_control import control_html

ATTACK = "</script><script>window.pwned=1</script>"


@pytest.fixture(scope="module")
def control(planted_control):
    return planted_control(reason="The planted interval excludes 0.", notes=("tau was matched",))


@pytest.fixture(scope="module")
def page(control, read_page):
    return read_page(control_html(control))


def test_the_page_says_what_a_reader_needs(page, control):
    standard, equal = control.slopes["standard"], control.slopes["equal_step"]
    for words in (
        "SmolLM2-135M-Instruct.Q4_K_M.gguf",
        "Intrinsic: deeper blocks move more even where all take the same relative step.",
        "The planted interval excludes 0.",
        "Each of the 3 seeds alone gives the same verdict.",
        f"Slope, standard {standard.slope:.3f} {standard.low:.3f} to {standard.high:.3f}",
        f"Slope, equal-step {equal.slope:.3f} {equal.low:.3f} to {equal.high:.3f}",
        f"Ratio {control.ratio:.3f}",
        "τ 0.000125",
        "Seeds 0, 1, 2",
        "Loss, standard 2.32",
        "trained on 1,920 examples of reviews.csv, causal-lm · 3 seeds · 290 probes",
        "tau was matched",
        "layerwise control demo demo --steps 60",
        "Data SHA-256 " + "7d" * 32,
        "equal-step 2: model.safetensors " + "c7" * 32,
    ):
        assert words in page.said, words


def test_every_seed_is_a_line(page, control):
    for run in control.runs:
        line = (
            f"{run.seed} {run.standard.slope:.3f} ({run.standard.slope_low:.3f} to "
            f"{run.standard.slope_high:.3f}) {run.equal_step.slope:.3f}"
        )
        assert line in page.said
        assert f"{run.ratio:.3f} 0.000125 {run.standard_loss:.2f} {run.equal_step_loss:.2f}" in (
            page.said
        )


def test_every_block_has_its_change_and_step_under_both(page, control):
    first = [run.standard.blocks[0].procrustes for run in control.runs]
    step = control.runs[0].standard_steps[0].median
    line = f" 0 {sum(first) / 3:.3f} 0.050 {1e6 * step:.0f} 125 "
    assert line in page.said


def test_both_conditions_are_shaded_on_one_scale(page):
    looks = [a["class"] for t, a in page.tags if t == "li" and "class" in a]
    assert len(looks) == 60
    assert looks[29] == "cell heat-10"
    assert looks[59] == "cell heat-7"


def test_every_chart_has_a_figure(page):
    names = {a["data-chart"] for _, a in page.tags if "data-chart" in a}
    assert names == set(json.loads(page.text["script"][0])["specs"])


def test_an_artefact_is_told_in_plain_words(planted_control, read_page):
    said = read_page(control_html(planted_control(equal=0.0))).said
    assert "Gradient artefact:" in said
    assert "The shape is the optimizer's." in said


def test_what_was_not_recorded_is_said_or_left_out(planted_control, read_page):
    control = planted_control(seeds=(5,), steps=False, losses=False)
    said = read_page(control_html(replace(control, data=None))).said
    assert "The runs did not record their step sizes." in said
    assert "Relative step" not in said
    assert "Loss, standard 2" not in said
    assert "1 seed · 290 probes" in said
    assert "One seed: the interval is over probe inputs" in said


def test_a_standard_slope_of_0_has_no_ratio(planted_control, read_page):
    control = planted_control(seeds=(0,))
    run = replace(control.runs[0], ratio=None)
    said = read_page(control_html(replace(control, ratio=None, runs=(run,)))).said
    assert "Ratio – equal-step over standard" in said


def test_steps_are_those_of_the_stack_that_was_followed(planted_control, read_page):
    control = planted_control(blocks=4, seeds=(0,), stack="decoder")
    stacks = (StackInfo("encoder", 2, "B", "none"), StackInfo("decoder", 4, "B", "none"))
    standard = replace(control.standard, before=replace(control.standard.before, stacks=stacks))
    moved = tuple(
        replace(group, row=group.row + 2) if group.row is not None else group
        for group in control.runs[0].standard_steps
    )
    run = replace(control.runs[0], standard=standard, standard_steps=moved)
    said = read_page(control_html(replace(control, standard=standard, runs=(run,)))).said
    expected = 1e6 * control.runs[0].standard_steps[0].median
    assert f" {expected:.0f} 125 1 " in said
    assert " 410 – Before and after" in said


def test_untrained_modules_of_any_run_are_a_warning(planted_control, read_page):
    control = planted_control(untrained=("h.0.attn",))
    assert "1 module never trained" in read_page(control_html(control)).said


def test_hostile_text_neither_ends_an_element_nor_starts_one(planted_control, page, read_page):
    control = planted_control(
        before=ATTACK,
        after=ATTACK,
        stack=ATTACK,
        command=ATTACK,
        reason=ATTACK,
        notes=(ATTACK,),
        untrained=(ATTACK,),
    )
    data = replace(control.data, source=ATTACK, objective=ATTACK, sha256=ATTACK)
    found = read_page(control_html(replace(control, data=data)))
    assert len(found.text["script"]) == len(page.text["script"])
    assert ATTACK in found.said
    assert ATTACK not in found.text["script"][0]


def test_the_same_control_is_the_same_bytes(planted_control):
    control = planted_control(blocks=4)
    assert control_html(control) == control_html(control)
