"""Adapters where they are asked for, on models that have no card."""

from dataclasses import replace

import pytest
from peft import LoraConfig, get_peft_model

from layerwise.errors import SchemaError
from layerwise.placement.record import PlacedBlock
from layerwise.tuning.lora import (
    adapted,
    adapter_parameters,
    head_notes,
    named_placement,
    placed_on,
    prepared,
)

# PEFT reads an attribute that transformers is renaming.
renaming = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


def with_adapters(model):
    return {n.removesuffix(".lora_A") for n, _ in model.named_modules() if n.endswith(".lora_A")}


def test_blocks_are_in_the_order_in_which_they_run(tuning):
    placed = placed_on(tuning.loaded("t5"))
    assert placed.policy == "all"
    assert placed.blocks == tuple(
        PlacedBlock(stack, i) for stack in ("encoder.block", "decoder.block") for i in (0, 1)
    )
    placed = placed_on(tuning.loaded("llama"), [1, 0], rank=4, alpha=8, dropout=0.0)
    assert [b.index for b in placed.blocks] == [0, 1]
    assert (placed.policy, placed.rank, placed.alpha, placed.dropout) == ("manual", 4, 8, 0.0)


def test_a_stack_goes_by_a_part_of_its_name(tuning):
    loaded = tuning.loaded("t5")
    short = placed_on(loaded, [PlacedBlock("decoder", 1)])
    assert short == placed_on(loaded, [PlacedBlock("decoder.block", 1)])
    assert all(name.startswith("decoder.block.1.") for name in short.modules)


def test_targets_may_be_named(tuning):
    placed = placed_on(tuning.loaded("llama"), targets=["q_proj"])
    assert placed.modules == tuple(f"model.layers.{i}.self_attn.q_proj" for i in (0, 1))
    assert placed.adapter_parameters == 2 * 8 * (16 + 16)


def test_adapters_are_on_the_placement_s_modules_alone(tuning):
    loaded = tuning.loaded("bert")
    placed = placed_on(loaded, [1])
    subject = adapted(loaded, placed)
    found = {n.removeprefix("base_model.model.") for n in with_adapters(subject.model)}
    assert found == set(placed.modules)
    trained = {n for n, p in subject.model.named_parameters() if p.requires_grad}
    assert trained == set(adapter_parameters(subject.model))
    assert [s.blocks for s in subject.stacks] != [s.blocks for s in loaded.stacks]


def test_adapters_that_are_there_are_found(tuning):
    loaded = tuning.loaded("llama")
    placed = placed_on(loaded, [1], rank=4, alpha=12, dropout=0.25)
    subject = adapted(loaded, placed)
    again, found = prepared(subject, None)
    assert again is subject
    assert found == replace(placed, policy="manual")
    assert prepared(subject, placed)[1] is placed


def test_the_ranks_of_adapters_are_found_by_module(tuning):
    loaded = tuning.loaded("llama")
    placed = placed_on(loaded, rank=4, alpha=8)
    lower = {name: 2 for name in placed.modules if ".layers.0." in name}
    size = placed.adapter_parameters * 3 // 4  # Both blocks are alike, and one has half the rank.
    by_block = replace(placed, ranks=lower, adapter_parameters=size)
    assert prepared(adapted(loaded, by_block), None)[1] == replace(by_block, policy="manual")


@renaming
def test_scales_that_a_placement_cannot_say_are_told(tuning):
    loaded = tuning.loaded("llama")
    config = LoraConfig(target_modules=["q_proj"], r=4, lora_alpha=8, rank_pattern={"0.*q_proj": 2})
    subject = replace(loaded, model=get_peft_model(loaded.model, config))
    found = prepared(subject, None)[1]
    first, second = found.modules
    assert (found.ranks, found.rank_of(second)) == ({first: 2}, 4)
    assert found.notes == (
        f"adapters of another rank are scaled by other than alpha / rank = 2: {first} (4)",
    )


def test_an_adapter_finds_its_base_by_its_whole_path(tuning, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    loaded = replace(tuning.loaded("llama"), source="base")
    config = adapted(loaded, placed_on(loaded)).model.active_peft_config
    assert config.base_model_name_or_path == str(tmp_path / "base")
    hub = replace(tuning.loaded("llama"), source="org/model")
    assert (
        adapted(hub, placed_on(hub)).model.active_peft_config.base_model_name_or_path == "org/model"
    )


@renaming
def test_adapters_of_others_that_leave_the_head_alone_are_told(tuning):
    loaded = tuning.loaded("bert_classifier")
    config = LoraConfig(target_modules=["query"], r=2)
    subject = replace(loaded, model=get_peft_model(loaded.model, config))
    told = "the head (bert.pooler, classifier) stays: the adapters do not hold it"
    assert head_notes(subject.model, placed_on(loaded)) == (told,)
    assert all(".lora_" in name for name in adapter_parameters(subject.model))
    llama = tuning.loaded("llama")
    placement = placed_on(llama)
    assert head_notes(adapted(llama, placement).model, placement) == ()


def test_a_card_in_place_of_a_placement_is_told_what_makes_one(tuning, planted_card, tmp_path):
    planted_card().save(tmp_path)
    for named in (tmp_path, str(tmp_path / "card.json")):
        with pytest.raises(SchemaError, match="try: layerwise place CARD"):
            named_placement(named, tuning.loaded("llama"))
