"""The tables of probes and of erasure: every depth, and a sentence that is true of them."""

from dataclasses import replace

import pytest

from layerwise.probing.record import (
    Accuracy,
    ClassCount,
    ErasedDepth,
    Erasure,
    ErasureSettings,
    ProbedDepth,
    ProbeSettings,
    Probing,
    TextInfo,
)
from layerwise.report.old import erasure_table, probing_table

MOST = (
    "Erasing the concept tells most at block 1: pairs move together by 40.0 %, by 1.0 % under a "
    "random direction; surely more at 2 of 3 depths."
)

READ = (0.55, 0.81, 0.83, 0.70)


@pytest.fixture(scope="module")
def probing(planted_profile):
    profile = planted_profile()
    return Probing(
        model=profile.before,
        data=TextInfo("reviews.csv", "ab", 1000, 20000, 128, {"text": "text", "label": "label"}),
        stack=profile.stack,
        readout="hf",
        settings=ProbeSettings(),
        classes=(ClassCount("neg", 400, 100), ClassCount("pos", 400, 100)),
        majority=0.5,
        depths=tuple(
            ProbedDepth((i + 1) / 4, i, right(value), right(value / 2))
            for i, value in enumerate(READ)
        ),
        provenance=profile.provenance,
        notes=("3 of [bold] them were left out",),
    )


def right(value):
    return Accuracy(value, value - 0.05, value + 0.05, 1.0)


def erased(index, effect, *, margin_low):
    return ErasedDepth(
        relative=(index + 1) / 3,
        index=index,
        distance=4.0,
        effect=effect,
        effect_median=effect - 0.01,
        effect_low=effect - 0.05,
        effect_high=effect + 0.05,
        control=0.01,
        control_low=0.0,
        control_high=0.02,
        margin=effect - 0.01,
        margin_low=margin_low,
        margin_high=effect + 0.04,
        ordered=0.9,
        energy=0.03,
        control_energy=0.03,
        overlap=0.1,
        effect_in_sample=effect + 0.1,
        top_variance=0.2,
    )


@pytest.fixture(scope="module")
def erasure(probing):
    depths = (erased(0, -0.2, margin_low=-0.3), erased(1, 0.4, margin_low=0.3))
    return Erasure(
        model=probing.model,
        data=probing.data,
        pairs=80,
        groups=80,
        stack=probing.stack,
        readout="residual",
        settings=ErasureSettings(),
        depths=(*depths, erased(2, 0.2, margin_low=0.1)),
        eraser="concept-erasure 0",
        provenance=probing.provenance,
        notes=("judged [otherwise]",),
    )


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_line_a_depth_and_where_classes_are_read(probing, printed):
    found = lines(printed(probing_table(probing)))
    assert any(line.startswith("1 0.810 0.405 0.760 to 0.860") for line in found)
    for words in (
        "What can be read from the depths of SmolLM2-135M-Instruct.Q4_K_M.gguf",
        "on reviews.csv (2 classes, 800 examples to train, 200 to judge, readout hf)",
        "A linear probe is right in 83 % at block 2, and first within its interval at block 1.",
        "Always naming the commonest class is right in 50 %.",
        "- note: 3 of [bold] them were left out",
    ):
        assert words in found, words


def test_the_best_depth_that_is_the_first_is_said_once(probing, printed):
    found = printed(probing_table(replace(probing, depths=probing.depths[2:])))
    assert "A linear probe is right in 83 % at block 2." in found


def test_effects_against_the_control(erasure, printed):
    found = lines(printed(erasure_table(erasure)))
    assert any(
        line.startswith("1 40.0 % 1.0 % 39.0 % (30.0 %, 44.0 %) 39.0 % 90.0 % 3.0 %")
        for line in found
    )
    assert any(line.startswith("0 -20.0 %") for line in found)
    for words in (
        "on reviews.csv (80 pairs, 5 folds, 20 random directions in each, readout residual)",
        MOST,
        "- note: judged [otherwise]",
    ):
        assert words in found, words


def test_no_depth_beyond_the_control_is_said(erasure, printed):
    found = printed(erasure_table(replace(erasure, depths=erasure.depths[:1])))
    assert (
        "At no depth does erasing the concept tell more than erasing a random direction." in found
    )


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_line_is_longer_than_the_terminal(probing, erasure, printed, width):
    for table in (probing_table(probing), erasure_table(erasure)):
        assert max(map(len, printed(table, width=width).splitlines())) <= width


def test_an_ascii_terminal_gets_ascii(probing, erasure, printed):
    for table in (probing_table(probing), erasure_table(erasure)):
        assert printed(table, encoding="ascii").isascii()


def test_printing_a_record_is_its_table(probing, erasure):
    assert str(probing).startswith("What can be read from the depths of")
    assert str(erasure).startswith("Erasing a concept from the depths of")
