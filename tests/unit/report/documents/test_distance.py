from dataclasses import replace

import pytest

from layerwise.card.record import DataInfo
from layerwise.distance.record import Distance, DistanceSettings, HalfDistance, ObjectiveDistance
from layerwise.report import document, frames, text

AT = {"causal-lm": 0.0, "barlow-twins": 1.25, "simcse": 0.75}


def objective(name, value):
    numbers = dict.fromkeys(("procrustes", "cosine", "cosine_128", "cosine_32", "pearson"), value)
    numbers |= {"fisher": value / 2, "mean_norm": 0.00321, "coherence": 12.3, "nonzero": 1.0}
    half = HalfDistance(rows=960, **numbers)
    return ObjectiveDistance(name=name, rows=1920, halves=(half, half), **numbers)


@pytest.fixture(scope="session")
def distance(planted_profile):
    profile = planted_profile()
    how = DistanceSettings(32, 60, 576, 0, "float32", (("simcse", "nsp"),), 180, 9.0, 10**9)
    return Distance(
        model=profile.before,
        data=DataInfo("reviews.csv", "ab", 1920, 40000, "causal-lm"),
        reference="causal-lm",
        settings=how,
        objectives=tuple(objective(name, value) for name, value in AT.items()),
        agreement={"procrustes": 0.5, "cosine": -1.0},
        provenance=profile.provenance,
        notes=("the [bold] model has no dropout",),
    )


def test_every_objective_nearest_first_with_its_numbers(distance):
    made, found = document(distance), frames(distance)
    assert list(found["distances"]["name"]) == sorted(AT, key=AT.get)
    assert list(found["distances"]["fisher"]) == [0.0, 0.375, 0.625]
    assert list(found["gradients"]["mean_norm"]) == [0.00321] * 3
    assert made.tables()["distances"].marked == {0}
    chart = made.charts()["distances"]
    assert [row["procrustes"] for row in chart.rows] == [0.0, 0.75, 1.25]
    assert len(chart.faint) == 6


def test_what_is_found_and_how_surely_is_said(distance):
    said = text(distance, width=200)
    for words in (
        "from causal-lm on reviews.csv (1,920 examples, gradients of 576)",
        "Nearest to causal-lm is simcse (0.750), farthest barlow-twins (1.25), by Procrustes.",
        "in ranking them: Spearman 0.50 by Procrustes, -1.00 by cosine.",
        "- note: the [bold] model has no dropout",
    ):
        assert words in said, words
    alone = replace(distance, agreement={}, objectives=distance.objectives[:2])
    assert "Too few objectives to rank them" in text(alone, width=200)
    assert "Procrustes distance from causal-lm: barlow-twins (1.25)." in text(alone, width=200)


def test_a_reader_learns_how_it_was_measured(distance):
    (facts,) = (
        b for b in document(distance).blocks if ("Dtype", "float32") in getattr(b, "pairs", ())
    )
    for pair in (("Shared", "simcse and nsp"), ("Peak memory", "1.00 GB"), ("Seed", "0")):
        assert pair in facts.pairs
