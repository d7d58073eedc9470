"""Adapters where they are asked for, on models that have no card."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from layerwise.errors import BadInputError, SchemaError, UnknownNameError, VerificationError
from layerwise.placement.record import PlacedBlock
from layerwise.tuning.lora import adapted, adapter_parameters, head_notes, placed_on, prepared

# PEFT reads an attribute that transformers is renaming.
renaming = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


def with_adapters(model):
    return {n.removesuffix(".lora_A") for n, _ in model.named_modules() if n.endswith(".lora_A")}


def test_all_blocks_by_default(tuning):
    placed = placed_on(tuning.loaded("t5"))
    assert placed.policy == "all"
    assert placed.blocks == tuple(
        PlacedBlock(stack, i) for stack in ("encoder.block", "decoder.block") for i in (0, 1)
    )


def test_some_blocks_in_the_order_in_which_they_run(tuning):
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


@pytest.mark.parametrize(
    ("name", "blocks", "message"),
    [
        ("llama", [2], r"no such block in model\.layers: '2'; expected 0 to 1"),
        ("llama", [-1], r"no such block in model\.layers: '-1'"),
        ("llama", [0, 0], r"block of model\.layers named twice: '0'"),
        ("llama", [PlacedBlock("other", 0)], r"unknown stack: 'other'; expected .*model\.layers"),
        ("t5", [1], r"index without its stack: '1'; expected STACK:INDEX.*try: encoder\.block:1"),
        ("t5", [PlacedBlock("block", 1)], r"stack: 'block'; expected one of encoder.*, decoder"),
    ],
)
def test_blocks_that_are_not_there_are_refused(tuning, name, blocks, message):
    with pytest.raises(BadInputError, match=message):
        placed_on(tuning.loaded(name), blocks)


def test_targets_that_are_not_there_are_refused(tuning):
    with pytest.raises(UnknownNameError, match="q_pro"):
        placed_on(tuning.loaded("llama"), targets=["q_pro"])


def test_adapters_are_on_the_placement_s_modules_alone(tuning):
    loaded = tuning.loaded("bert")
    placed = placed_on(loaded, [1])
    subject = adapted(loaded, placed)
    found = {n.removeprefix("base_model.model.") for n in with_adapters(subject.model)}
    assert found == set(placed.modules)
    trained = {n for n, p in subject.model.named_parameters() if p.requires_grad}
    assert trained == set(adapter_parameters(subject.model))
    assert [s.blocks for s in subject.stacks] != [s.blocks for s in loaded.stacks]


def test_a_placement_for_another_model_is_refused(tuning):
    placed = placed_on(tuning.loaded("bert"))
    with pytest.raises(
        SchemaError, match=r"placement for another model: 'bert'; .*llama.*which has no bert"
    ):
        adapted(tuning.loaded("llama"), placed)


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


def test_adapters_of_other_ranks_than_placed_are_refused(tuning):
    loaded = tuning.loaded("llama")
    placed = placed_on(loaded, rank=4, alpha=8)
    other = replace(placed, ranks={placed.modules[1]: 2})
    subject = adapted(loaded, placed)
    with pytest.raises(SchemaError, match="of another rank than the placement's: '4'"):
        prepared(subject, other)
    assert prepared(subject, placed)[1] == placed


def test_adapters_elsewhere_than_placed_are_refused(tuning):
    loaded = tuning.loaded("llama")
    lower = placed_on(loaded, [0])
    subject = adapted(loaded, placed_on(loaded, [1]))
    with pytest.raises(SchemaError, match="adapters on other modules than the placement's"):
        prepared(subject, lower)


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
    assert head_notes(subject.model) == (told,)
    assert all(".lora_" in name for name in adapter_parameters(subject.model))
    assert (
        head_notes(adapted(tuning.loaded("llama"), placed_on(tuning.loaded("llama"))).model) == ()
    )


def test_a_module_with_a_name_that_ends_as_the_head_s_is_no_head(tuning):
    """PEFT looks at the ends of names, and would train the other one too."""
    loaded = tuning.loaded("llama_classifier")
    placed = placed_on(loaded)
    loaded.model.model.layers[0].z_score = torch.nn.Linear(2, 2)
    with pytest.raises(VerificationError, match=r"take for the head: .*z_score.*; expected score$"):
        adapted(loaded, placed)
    assert not with_adapters(loaded.model)
