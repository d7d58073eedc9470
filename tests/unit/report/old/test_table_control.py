from dataclasses import replace

import pytest

from layerwise.report.old import control_table


def test_verdict_profiles_and_seeds(planted_control, printed):
    control = planted_control(reason="Planted so.", notes=("tau was matched",))
    text = printed(control_table(control))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    run = control.runs[1]
    line = f"1 {run.standard.slope:.3f} ({run.standard.slope_low:.3f} to"
    assert any(found.startswith(line) and found.endswith("intrinsic") for found in lines)
    pooled = control.slopes["equal_step"]
    assert any(
        found.startswith("all ") and f"{pooled.slope:.3f} ({pooled.low:.3f}" in found
        for found in lines
    )
    for words in (
        "Control of SmolLM2-135M-Instruct.Q4_K_M.gguf: standard against equal-step",
        "on reviews.csv (1,920 examples, causal-lm)",
        "Planted so.",
        "- note: tau was matched",
    ):
        assert words in lines, words


def test_both_profiles_are_on_one_scale(planted_control, printed):
    lines = printed(control_table(planted_control())).splitlines()
    (standard,) = (line for line in lines if line.startswith("standard "))
    (equal,) = (line for line in lines if line.startswith("equal-step "))
    assert standard.split()[1].endswith("█")
    assert "█" not in equal


def test_one_seed_has_no_line_for_all(planted_control, printed):
    control = replace(planted_control(seeds=(3,)), data=None)
    lines = printed(control_table(control)).splitlines()
    assert not any(line.startswith("all ") for line in lines)
    assert any(line.startswith("3 ") for line in lines)


@pytest.mark.parametrize("width", [32, 56, 76, 100])
def test_no_line_is_longer_than_the_terminal(planted_control, printed, width):
    lines = printed(control_table(planted_control()), width=width).splitlines()
    assert max(map(len, lines)) <= width


def test_an_ascii_terminal_gets_ascii(planted_control, printed):
    control = planted_control(before="[b]модель", reason="µ", untrained=("é",))
    text = printed(control_table(control), encoding="ascii")
    assert text.isascii()
    assert "[b]" in text
    assert "1 module never trained" in text
