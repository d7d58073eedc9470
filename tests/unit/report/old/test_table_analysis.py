from dataclasses import replace

import pytest

from layerwise.report.old import analysis_table


def test_signs_models_words_and_outliers(atlas_analysis, printed):
    text = " ".join(printed(analysis_table(atlas_analysis)).split())
    for words in (
        "Analysis of atlas (arXiv 2604.17177) 210 runs, 9 models",
        "five standard procrustes 190 189 1 0",
        "equal-step cka 20",
        "codegen-350m-mono parallel",
        "-0.20 0.40",
        "Change rises over depth in 189 of 190 standard runs.",
        "pythia-160m, causal-lm, frozen-norm: Procrustes 0.094, CKA -0.033",
        "bert-base-uncased, nsp, by cosine: 2.68",
        "- not here: Intervals over seeds (there is one seed)",
    ):
        assert words in text, words


def test_a_line_a_model_with_its_width(atlas_analysis, printed):
    lines = printed(analysis_table(atlas_analysis)).splitlines()
    (line,) = (line for line in lines if line.startswith("opt-125m"))
    assert "▁▁▁▁▁▁█" in line


def test_notes_are_told(planted_runs, printed):
    made = replace(planted_runs.analysed(planted_runs.study()), notes=("a fallback",))
    assert "- note: a fallback" in printed(analysis_table(made))


def test_the_many_are_counted(planted_runs, printed, atlas_analysis):
    made = replace(atlas_analysis, disagreements=atlas_analysis.disagreements * 5)
    assert "and 8 more" in printed(analysis_table(made))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"conditions": ("equal-step",)}, "No run is under one of the five standard conditions."),
        (
            {"metrics": ("cka",), "distant": False},
            "Change rises over depth in all 30 standard runs.",
        ),
        ({"metrics": ("procrustes",)}, "not here: Widths"),
    ],
)
def test_what_is_missing_is_told(planted_runs, printed, how, words):
    assert words in printed(analysis_table(planted_runs.analysed(planted_runs.study(**how))))


@pytest.mark.parametrize("width", [32, 50, 64, 80])
def test_no_line_is_longer_than_the_terminal(atlas_analysis, printed, width):
    lines = printed(analysis_table(atlas_analysis), width=width).splitlines()
    assert max(map(len, lines)) <= width
    asked = printed(analysis_table(atlas_analysis, width=width), width=200).splitlines()
    assert max(map(len, asked)) <= width


def test_an_ascii_terminal_gets_ascii_and_brackets_stay(planted_runs, printed):
    runs = planted_runs.study(models=("[red]модель", "b\x1b[31m"), source="[bold]x")
    text = printed(analysis_table(planted_runs.analysed(runs)), encoding="ascii")
    assert text.isascii()
    assert "[red]" in text
    assert "[bold]x" in text
    assert "\x1b" not in text
