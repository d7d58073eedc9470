from dataclasses import replace

import pytest

from layerwise.probing.record import BestDepth
from layerwise.report import document, frames, text

READ = (0.55, 0.81, 0.83, 0.70)


@pytest.fixture(scope="session")
def probing(kept):
    """Accuracies of `READ` for the linear probe and of half of them for the MLP, 0.05 about."""
    found = kept("probe")

    def right(was, value):
        return replace(was, accuracy=value, low=value - 0.05, high=value + 0.05)

    depths = tuple(
        replace(depth, linear=right(depth.linear, value), mlp=right(depth.mlp, value / 2))
        for depth, value in zip(found.depths, READ, strict=False)
    )
    return replace(found, depths=depths, notes=("3 of [bold] them were left out",))


@pytest.fixture(scope="session")
def erasure(kept):
    """Effects of which the first is driven apart, the second the most."""
    found = kept("erase")
    planted = ((-0.2, -0.3), (0.4, 0.3), (0.2, 0.1))
    depths = tuple(
        replace(d, effect=effect, control=0.01, margin=effect - 0.01, margin_low=low)
        for d, (effect, low) in zip(found.depths, planted, strict=False)
    )
    return replace(found, depths=depths, notes=("judged [otherwise]",))


def test_a_line_a_depth_with_both_probes_and_their_intervals(probing):
    found = frames(probing)["depths"]
    assert list(found["linear"]) == list(READ)
    assert list(found["mlp_high"]) == [value / 2 + 0.05 for value in READ]
    chart = document(probing).charts()["accuracy"]
    assert [row["value"] for row in chart.rows if row["of"] == "linear"] == list(READ)
    assert chart.rules[0].at == probing.majority


def test_where_classes_are_read_is_said(probing, unsaid):
    assert not unsaid(
        text(probing, width=200),
        "on texts.jsonl (2 classes, 30 examples to train, 10 to judge, readout hf)",
        "A linear probe is right in 83 % at block 2, and first within its interval at block 1.",
        "An MLP is right in 42 % at block 2",
        "Always naming the commonest class is right in 50 %.",
        "- note: 3 of [bold] them were left out",
    )
    chosen = replace(probing, best={"mlp": BestDepth((1, 2), 0.39, 0.35, 0.44)})
    assert not unsaid(
        text(chosen, width=200),
        "The best depth, chosen on other examples, is right in a share of 0.390 (0.350 to 0.440).",
    )
    late = replace(probing, depths=probing.depths[2:])
    assert "A linear probe is right in 83 % at block 2.\n" in text(late, width=200)


def test_effects_stand_against_the_control(erasure, unsaid):
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
    assert not unsaid(
        text(erasure, width=200),
        "(20 pairs, 4 folds, 3 random directions in each, readout hf)",
        "- note: judged [otherwise]",
    )


def test_no_depth_beyond_the_control_is_said(erasure):
    said = text(replace(erasure, depths=erasure.depths[:1]), width=200)
    assert "At no depth does erasing the concept tell more than erasing a random direc" in said
