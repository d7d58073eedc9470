"""The table of distances: every objective, nearest first, in any terminal."""

from dataclasses import replace

import pytest

from layerwise.card.record import DataInfo
from layerwise.distance.record import (
    Distance,
    DistanceSettings,
    HalfDistance,
    ObjectiveDistance,
)
from layerwise.report.old import distance_table

AT = {"causal-lm": 0.0, "barlow-twins": 1.25, "simcse": 0.75}

AGREED = "Agreement of both halves of the examples in ranking them:"


@pytest.fixture(scope="module")
def distance(planted_profile):
    profile = planted_profile()
    return Distance(
        model=profile.before,
        data=DataInfo("reviews.csv", "ab", 1920, 40000, "causal-lm"),
        reference="causal-lm",
        settings=DistanceSettings(
            32, 60, 576, 0, "float32", (("simcse", "barlow-twins"),), 180, 9.0, 1
        ),
        objectives=tuple(objective(name, value) for name, value in AT.items()),
        agreement={"procrustes": 0.5, "cosine": -1.0},
        provenance=profile.provenance,
        notes=("the [bold] model has no dropout",),
    )


def objective(name, value):
    numbers = dict.fromkeys(("procrustes", "cosine", "cosine_128", "cosine_32", "pearson"), value)
    numbers |= {"fisher": value / 2, "mean_norm": 0.00321, "coherence": 12.3, "nonzero": 1.0}
    half = HalfDistance(rows=960, **numbers)
    return ObjectiveDistance(name=name, rows=1920, halves=(half, half), **numbers)


def test_every_objective_nearest_first(distance, printed):
    lines = [" ".join(line.split()) for line in printed(distance_table(distance)).splitlines()]
    starts = [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in AT]
    assert starts == ["causal-lm", "simcse", "barlow-twins"] * 2
    assert any(
        line.startswith("simcse 0.7500 0.7500 0.7500 0.7500 0.7500 0.3750") for line in lines
    )
    assert any(line.startswith("simcse 0.00321 12.3 1") for line in lines)
    for words in (
        "Distances from causal-lm in SmolLM2-135M-Instruct.Q4_K_M.gguf",
        "on reviews.csv (1,920 examples, gradients of 576)",
        f"{AGREED} Spearman 0.50 by Procrustes, -1.00 by cosine.",
        "- note: the [bold] model has no dropout",
    ):
        assert words in lines, words


def test_one_objective_has_no_ranking(distance, printed):
    text = printed(distance_table(replace(distance, agreement={})))
    assert "Too few objectives to rank them by each half of the examples." in text


@pytest.mark.parametrize("width", [32, 56, 76, 80, 100])
def test_no_line_is_longer_than_the_terminal(distance, printed, width):
    text = printed(distance_table(distance), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "barlow-twins" in text


def test_an_ascii_terminal_gets_ascii(distance, printed):
    assert printed(distance_table(distance), encoding="ascii").isascii()
