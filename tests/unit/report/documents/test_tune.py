from dataclasses import replace

import pytest

from layerwise.report import document, frames, text


@pytest.fixture(scope="session")
def record(kept):
    """A run whose first block was frozen, so that it made no step."""
    found = kept("tune")
    frozen = replace(found.groups[0], trained=0, step_ratio=None)
    outcome = replace(found.outcome, eval_loss=2.91, first_eval_loss=3.31, seconds=41.5)
    groups = (frozen, *found.groups[1:])
    return replace(found, groups=groups, outcome=outcome, tau=None, notes=("a [note]",))


def told(record, **outcome):
    return text(replace(record, outcome=replace(record.outcome, **outcome)), width=120)


def test_a_line_a_group_and_how_the_run_went(record, unsaid):
    found = frames(record)["groups"]
    assert list(found["name"]) == [*(f"layers.{n}" for n in range(6)), "rest"]
    assert list(found["trained"]) == [group.trained for group in record.groups]
    assert list(found["step_ratio"][1:]) == [group.step_ratio for group in record.groups[1:]]
    assert not unsaid(
        told(record),
        "equal-step on texts.jsonl (causal-lm, 40 examples)",
        "Loss 4.33 → 4.31, held out 3.31 → 2.91.",
        "4 steps in 41.5 s, peak memory 686 MB.",
        "- note: a [note]",
    )


QUALITY = {"accuracy": 0.8125, "macro_f1": 0.75}


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({"eval_loss": None, "first_eval_loss": None}, "Loss 4.33 → 4.31.\n"),
        ({"first_eval_loss": None}, "Loss 4.33 → 4.31, held out 2.91.\n"),
        ({"quality": QUALITY}, "Accuracy 0.812, macro-F1 0.750, held out.\n"),
        (
            {"quality": QUALITY, "first_quality": {"accuracy": 0.5, "macro_f1": 0.25}},
            "Accuracy 0.500 → 0.812, macro-F1 0.250 → 0.750, held out.\n",
        ),
        (
            {"processes": 2, "resumed_from": 2},
            "4 steps, from step 2 in 41.5 s on 2 processes, peak memory 686 MB.\n",
        ),
    ],
)
def test_what_a_run_had_is_told_and_nothing_else(record, outcome, words):
    assert words in told(record, **outcome)


def test_tau_is_told(record):
    said = text(replace(record, tau=1.25e-4), width=120)
    assert "Equal-step asked a relative step of 0.000125 of each group." in said


def test_stacks_that_end_alike_keep_their_whole_names(record):
    two = [replace(record.groups[1], name=f"{side}.block.0") for side in ("encoder", "other")]
    found = frames(replace(record, groups=tuple(two)))["groups"]
    assert list(found["name"]) == ["encoder.block.0", "other.block.0"]


def test_steps_are_drawn_by_block_and_the_rest_apart(record):
    rows = document(record).charts()["steps"].rows
    spots = [*((n, n) for n in range(1, 6)), (7, None)]
    assert [(row["x"], row["index"]) for row in rows] == spots
    frozen = tuple(replace(group, step_ratio=None) for group in record.groups)
    assert document(replace(record, groups=frozen)).charts() == {}


def test_where_adapters_are_is_told(record, planted_card, planted_placement):
    placed = replace(record, placement=planted_placement(planted_card({"model.layers": 3}), [1]))
    said = [getattr(block, "text", "") for block in document(placed).blocks]
    assert any("adapts block 1: rank 8, alpha 16" in line for line in said)
