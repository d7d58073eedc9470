"""Blocks that train whole, by a placement, under each condition that trains weights."""

from dataclasses import replace

import pytest
import torch

from layerwise.errors import BadInputError, PlacementError, SchemaError
from layerwise.placement.record import PlacedBlock, Placement
from layerwise.study.placing import check_placement
from layerwise.tuning.conditions import CONDITIONS
from layerwise.tuning.lora import placed_on

WEIGHTS = [name for name in CONDITIONS if not CONDITIONS[name].adapters]
READ = {"equal-step": {"tau": 1e-3}, "top-m": {"top": 1}}


def whole(*blocks, stack="model.layers"):
    placed = tuple(PlacedBlock(stack, block) for block in blocks)
    return Placement("manual", placed, (), 0, 0, 0, model="llama", whole_parameters=1)


def moved(before, after):
    return {n for n, p in after.named_parameters() if not torch.equal(p, before[n])}


def weights(loaded):
    return {name: p.detach().clone() for name, p in loaded.model.named_parameters()}


@pytest.mark.parametrize("condition", WEIGHTS)
def test_just_these_blocks_move(tuning, condition):
    subject = tuning.loaded("llama")
    last = len(subject.stacks[0].blocks) - 1
    before, how = weights(subject), READ.get(condition, {})
    tuned = tuning.tune(subject, condition=condition, placement=whole(last), **how)
    inside = f"model.layers.{last}."
    found = moved(before, tuned.loaded.model)
    assert found
    assert all(name.startswith(inside) for name in found)
    assert tuned.record.placement == whole(last)


def test_a_step_that_is_matched_is_that_of_these_blocks(tuning):
    found = [
        tuning.tune("llama", condition="equal-step", match_steps=2, placement=placed).record.tau
        for placed in (whole(0), whole(1))
    ]
    assert found[0] != found[1]


def test_a_head_for_classes_trains_beside_them_and_is_told(tuning):
    subject = tuning.loaded("bert_classifier")
    before = weights(subject)
    placed = whole(1, stack="bert.encoder.layer")
    tuned = tuning.tune(
        subject, condition="uniform", labels=("neg", "pos", "odd"), placement=placed,
        objective="classification",
    )  # fmt: skip
    found = moved(before, tuned.loaded.model)
    assert {name for name in found if name.startswith("classifier")}
    kept = ("bert.encoder.layer.1.", "classifier.", "bert.pooler.")
    assert all(name.startswith(kept) for name in found)
    told = "the head (bert.pooler, classifier) trains whole, beside the blocks"
    assert told in tuned.record.notes


@pytest.mark.parametrize(
    ("placed", "condition", "error", "line"),
    [
        (whole(99), "uniform", SchemaError, "which has no model.layers.99"),
        (whole(0), "frozen-lower", BadInputError, "freezes every block of the placement: 'model.l"),
        (whole(0), "lora", BadInputError, "blocks that train whole .*try: --condition uniform"),
    ],
)
def test_what_cannot_train_so_is_refused(tuning, placed, condition, error, line):
    with pytest.raises(error, match=line):
        tuning.tune("llama", condition=condition, placement=placed)


def test_a_run_of_other_blocks_is_another_run(tuning, tmp_path):
    tuning.tune(
        "llama", condition="uniform", placement=whole(0), folder=tmp_path, save_every=1, steps=1
    )
    with pytest.raises(BadInputError, match="placement"):
        tuning.tune(
            "llama", condition="uniform", placement=whole(1), folder=tmp_path, save_every=1,
            resume=True,
        )  # fmt: skip


def test_a_study_which_places_adapters_refuses_them_before_it_runs(tuning, tmp_path):
    subject = tuning.loaded("llama")
    for placed in (whole(0), placed_on(subject, [0])):
        (tmp_path / "placement.json").write_bytes(replace(placed, model="llama").to_json())
        if not placed.whole:
            check_placement(str(tmp_path), subject)
            continue
        with pytest.raises(PlacementError, match="adapters by a placement that trains whole block"):
            check_placement(str(tmp_path), subject)
