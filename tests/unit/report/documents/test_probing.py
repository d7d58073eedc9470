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
from layerwise.report import document, frames, text

READ = (0.55, 0.81, 0.83, 0.70)


def right(value):
    return Accuracy(value, value - 0.05, value + 0.05, 1.0)


@pytest.fixture(scope="session")
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


def erased(index, effect, *, margin_low):
    names = ("distance", "effect_low", "effect_high", "control_low", "control_high", "ordered")
    names += ("energy", "control_energy", "overlap", "effect_in_sample", "top_variance")
    planted = {"effect_median": effect - 0.01, "control": 0.01, "margin": effect - 0.01}
    ends = {"margin_low": margin_low, "margin_high": effect + 0.04}
    numbers = dict.fromkeys(names, 0.25) | planted | ends
    return ErasedDepth(relative=(index + 1) / 3, index=index, effect=effect, **numbers)


@pytest.fixture(scope="session")
def erasure(probing):
    effects = ((-0.2, -0.3), (0.4, 0.3), (0.2, 0.1))
    return Erasure(
        model=probing.model,
        data=probing.data,
        pairs=80,
        groups=80,
        stack=probing.stack,
        readout="residual",
        settings=ErasureSettings(),
        depths=tuple(erased(i, e, margin_low=low) for i, (e, low) in enumerate(effects)),
        eraser="concept-erasure 0",
        provenance=probing.provenance,
        notes=("judged [otherwise]",),
    )


def test_a_line_a_depth_with_both_probes_and_their_intervals(probing):
    found = frames(probing)["depths"]
    assert list(found["linear"]) == list(READ)
    assert list(found["mlp_high"]) == [value / 2 + 0.05 for value in READ]
    rows = document(probing).charts()["accuracy"].rows
    assert [row["value"] for row in rows if row["of"] == "linear"] == list(READ)
    assert document(probing).charts()["accuracy"].rules[0].at == 0.5


def test_where_classes_are_read_is_said(probing):
    said = text(probing, width=200)
    for words in (
        "on reviews.csv (2 classes, 800 examples to train, 200 to judge, readout hf)",
        "A linear probe is right in 83 % at block 2, and first within its interval at block 1.",
        "An MLP is right in 42 % at block 2",
        "Always naming the commonest class is right in 50 %.",
        "- note: 3 of [bold] them were left out",
    ):
        assert words in said, words
    late = replace(probing, depths=probing.depths[2:])
    assert "A linear probe is right in 83 % at block 2.\n" in text(late, width=200)


def test_effects_stand_against_the_control(erasure):
    made = document(erasure)
    table = made.tables()["depths"]
    assert table.marked == {1, 2}
    assert [row["effect"] for row in table.rows] == [-0.2, 0.4, 0.2]
    assert list(frames(erasure)["depths"]["margin_low"]) == [-0.3, 0.3, 0.1]
    rows = made.charts()["effect"].rows
    assert [row["value"] for row in rows if row["of"] == "a random direction"] == [0.01] * 3
    assert made.blocks[0].text == (
        "Erasing the concept tells most at block 1: pairs move together by 40.0 %, by 1.0 % under "
        "a random direction; surely more at 2 of 3 depths."
    )
    said = text(erasure, width=200)
    assert "(80 pairs, 5 folds, 20 random directions in each, readout residual)" in said
    assert "- note: judged [otherwise]" in said


def test_no_depth_beyond_the_control_is_said(erasure):
    said = text(replace(erasure, depths=erasure.depths[:1]), width=200)
    assert "At no depth does erasing the concept tell more than erasing a random direc" in said
