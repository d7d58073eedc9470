import pytest

from layerwise.report.old import profile_table


def test_the_seven_depths_are_lines_with_their_numbers(planted_profile, printed):
    profile = planted_profile()
    lines = printed(profile_table(profile)).splitlines()
    depths = [line for line in lines if line.split()[1:2] == ["%"]]
    assert len(depths) == 7
    for line, depth in zip(depths, profile.depths, strict=True):
        assert line.split()[:4] == [
            f"{depth.relative:.0%}"[:-1],
            "%",
            str(depth.index),
            f"{depth.procrustes:.3f}",
        ]
    assert depths[-1].rstrip().endswith("█" * 10)


def test_every_block_is_in_one_line(planted_profile, printed):
    (line,) = (x for x in printed(profile_table(planted_profile())).splitlines() if "every b" in x)
    assert len(line.split()[2]) == 30
    assert line.rstrip().endswith("0.0504 to 0.400")


def test_slopes_of_each_readout_and_the_words(planted_profile, printed):
    text = " ".join(printed(profile_table(planted_profile(notes=("a fallback",)))).split())
    for words in (
        "Depth profile of SmolLM2-135M-Instruct.Q4_K_M.gguf → standard/model",
        "290 probes, 3,412 tokens, readout hf",
        "hf 0.389 (0.359 to 0.419)",
        "residual 0.350 (0.320 to 0.380)",
        "Change rises over depth: block 29 moved most.",
        "100 times the noise floor",
        "- note: a fallback",
    ):
        assert words in text, words
    assert "never trained" not in text


def test_untrained_modules_are_named_and_the_many_counted(planted_profile, printed):
    names = tuple(f"h.{n}.q" for n in range(11))
    text = " ".join(printed(profile_table(planted_profile(untrained=names))).split())
    assert "11 modules never trained (adapter B all zero): h.0.q, h.1.q" in text
    assert text.endswith("h.7.q and 3 more")


def test_nothing_moved_is_said(still_profile, printed):
    text = printed(profile_table(still_profile()))
    assert "Nothing moved: " in text
    assert "█" not in text


@pytest.mark.parametrize("width", [32, 50, 64, 80])
def test_no_line_is_longer_than_the_terminal(planted_profile, printed, width):
    profile = planted_profile(blocks=128)
    lines = printed(profile_table(profile), width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("0.400" in line for line in lines)
    asked = printed(profile_table(profile, width=width), width=200).splitlines()
    assert max(map(len, asked)) <= width


def test_an_ascii_terminal_gets_ascii_and_brackets_stay(planted_profile, printed):
    profile = planted_profile(before="[red]модель", after="b\x1b[31m", notes=("[bold]x",))
    text = printed(profile_table(profile), encoding="ascii")
    assert text.isascii()
    assert "[red]" in text
    assert "[bold]x" in text
    assert "\x1b" not in text
    assert "##" in text
