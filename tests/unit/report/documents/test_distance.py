from dataclasses import replace

import pytest

from layerwise.report import document, frames, text


@pytest.fixture(scope="session")
def distance(kept):
    return replace(kept("distance"), notes=("the [bold] model has no dropout",))


def test_every_objective_nearest_first_with_its_numbers(distance):
    made, found = document(distance), frames(distance)
    own = sorted(distance.objectives, key=lambda objective: objective.procrustes)
    for table, keys in (("distances", ("name", "fisher")), ("gradients", ("mean_norm", "rows"))):
        for key in keys:
            assert list(found[table][key]) == [getattr(o, key) for o in own]
    assert made.tables()["distances"].marked == {0}
    chart = made.charts()["distances"]
    assert [row["procrustes"] for row in chart.rows] == [o.procrustes for o in own]
    halves = [half.procrustes for o in own for half in o.halves]
    assert [row["procrustes"] for row in chart.faint] == halves


def test_what_is_found_and_how_surely_is_said(distance, unsaid):
    assert not unsaid(
        text(distance, width=200),
        "from causal-lm on texts.jsonl (16 examples, gradients of 16)",
        "Nearest to causal-lm is causal-span (0.659), farthest simcse (0.870), by Procrustes.",
        "in ranking them: Spearman 1.00 by Procrustes, 0.50 by cosine.",
        "- note: the [bold] model has no dropout",
    )
    alone = replace(distance, agreement={}, objectives=distance.objectives[:2])
    assert not unsaid(
        text(alone, width=200),
        "Too few objectives to rank them",
        f"Procrustes distance from causal-lm: {alone.objectives[1].name} (",
    )


def test_a_reader_learns_how_it_was_measured(distance):
    pairs = {pair for block in document(distance).blocks for pair in getattr(block, "pairs", ())}
    shared = ("Shared", "simcse and barlow-twins")
    assert {("Dtype", "float32"), shared, ("Peak memory", "693 MB"), ("Seed", "0")} <= pairs
