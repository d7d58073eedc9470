"""What an adapter can sit on, and what a list of names means."""

import pytest
import torch
import transformers as tf
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn

from layerwise.errors import PlacementError, UnknownNameError
from layerwise.models.stack import all_refs, find_stacks
from layerwise.models.targets import adaptable, default_targets, fused_experts, resolve_targets
from support.versions import CONVERTED, FUSED


def parts(families, name, **overrides):
    model = families.build(name, **overrides)
    return model, find_stacks(model)


def test_defaults_of_each_family(families, family):
    known = {**families.ONE_STACK, **families.TWO_STACKS}
    assert default_targets(*parts(families, family)) == known[family][-1]


def test_defaults_reach_every_block(families, family):
    model, stacks = parts(families, family)
    rows = [target.row for target in resolve_targets(model, stacks)]
    assert rows == sorted(rows)
    assert set(rows) == set(range(len(all_refs(stacks))))


def test_targets_see_each_token_and_have_the_widths_they_say(families, family):
    """What capture relies on: rows of the input are tokens, in the examples' order."""
    model, stacks = parts(families, family)
    seen, targets = {}, adaptable(model, stacks)
    for target in targets:

        def keep(module, inputs, output, target=target):
            seen[target.name] = (target, inputs[0].shape, output.shape)

        model.get_submodule(target.name).register_forward_hook(keep)
    families.run(model, n=2, t=7)
    assert {target.name for target in targets} == set(seen)
    for target, into, out in seen.values():
        assert into[-1] == target.in_features
        assert out[-1] == target.out_features
        assert into[:-1].numel() in {2 * 7, 2 * 5}
        assert into[:-1].numel() in {into[0], into[0] * into[1]}


def test_conv1d_is_stored_transposed(families):
    model, stacks = parts(families, "gpt2")
    for target in adaptable(model, stacks):
        weight = model.get_submodule(target.name).weight
        assert target.transposed
        assert tuple(weight.shape) == (target.in_features, target.out_features)
    linear = adaptable(*parts(families, "llama"))[0]
    assert not linear.transposed


def test_published_table_where_an_architecture_is_in_it(families):
    model, stacks = parts(families, "bert")
    names = [t.name for t in resolve_targets(model, stacks)][:6]
    inside = [name.removeprefix("bert.encoder.layer.0.") for name in names]
    assert inside == [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ]


def test_weights_that_are_used_without_their_module_are_left_out(families):
    model, stacks = parts(families, "mamba")
    suffixes = {t.suffix for t in adaptable(model, stacks)}
    assert suffixes == {"in_proj", "x_proj"}


def test_all_linear_is_every_adaptable_module(families, family):
    model, stacks = parts(families, family)
    assert resolve_targets(model, stacks, ["all-linear"]) == adaptable(model, stacks)


def test_wanted_suffixes_are_the_modules_that_peft_injects(families, family):
    model, stacks = parts(families, family)
    suffixes = list(default_targets(model, stacks))
    meant = {t.name for t in resolve_targets(model, stacks, suffixes)}
    config = LoraConfig(target_modules=suffixes, fan_in_fan_out=family == "gpt2")
    inject_adapter_in_model(config, model)
    injected = {name.rpartition(".lora_A")[0] for name, _ in model.named_modules()}
    inside = {n for n in injected if any(n.startswith(r.name + ".") for r in all_refs(stacks))}
    assert meant == inside


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_layers_count_as_the_module_they_hold(families):
    model, stacks = parts(families, "llama")
    plain = adaptable(model, stacks)
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj", "up_proj"]))
    held = adaptable(wrapped, find_stacks(wrapped))
    assert [t.name for t in held] == [f"base_model.model.{t.name}" for t in plain]
    assert [(t.row, t.in_features, t.out_features) for t in held] == [
        (t.row, t.in_features, t.out_features) for t in plain
    ]


def with_odd_names(families):
    """A model whose blocks have modules with names that mean something to a regex."""
    model, stacks = parts(families, "llama")
    for block in model.model.layers:
        block.add_module("q_proj+", nn.Linear(32, 32))
        block.add_module("a[0]", nn.Linear(32, 32))
        block.add_module("q.proj".replace(".", "|"), nn.Linear(32, 32))
    return model, stacks


@pytest.mark.parametrize("suffix", ["q_proj+", "a[0]", "q|proj"])
def test_names_are_text_not_patterns(families, suffix):
    model, stacks = with_odd_names(families)
    found = resolve_targets(model, stacks, [suffix])
    assert [t.name for t in found] == [f"model.layers.{i}.{suffix}" for i in range(3)]


@pytest.mark.parametrize(
    "pattern", ["q_pro.", ".*", "q_proj|k_proj", "proj", "_proj", "q_proj$", ""]
)
def test_patterns_match_nothing(families, pattern):
    model, stacks = with_odd_names(families)
    with pytest.raises(UnknownNameError, match="unknown target"):
        resolve_targets(model, stacks, [pattern])


def test_unknown_names_list_those_that_exist(families):
    model, stacks = parts(families, "llama")
    with pytest.raises(UnknownNameError, match="did you mean 'q_proj'") as error:
        resolve_targets(model, stacks, ["q_prj"])
    assert error.value.known == (
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    )  # fmt: skip


def test_several_parts_narrow_a_name(families):
    model, stacks = parts(families, "gpt2")
    assert {t.name.split(".")[3] for t in resolve_targets(model, stacks, ["mlp.c_proj"])} == {"mlp"}
    both = resolve_targets(model, stacks, ["c_proj"])
    assert len(both) == 2 * len(resolve_targets(model, stacks, ["attn.c_proj"]))


def test_a_module_meant_twice_is_there_once(families):
    model, stacks = parts(families, "llama")
    once = resolve_targets(model, stacks, ["q_proj"])
    assert resolve_targets(model, stacks, ["q_proj", "self_attn.q_proj", "q_proj"]) == once


@FUSED
def test_fused_experts_are_an_error_that_names_what_can_be_adapted(families):
    model, stacks = parts(families, "qwen3_moe")
    assert set(fused_experts(model, stacks).values()) == {0, 1, 2}
    for wanted in ("gate_up_proj", "down_proj", "experts"):
        with pytest.raises(PlacementError, match=r"fused experts.*--targets k_proj,o_proj"):
            resolve_targets(model, stacks, [wanted])


@CONVERTED
def test_dense_modules_named_as_experts_were_are_refused(families):
    """PEFT takes their names for those of experts before they were fused, and adapts these."""
    model, stacks = parts(families, "qwen3_moe", mlp_only_layers=[0])
    assert not [t for t in adaptable(model, stacks) if ".mlp." in t.name]
    with pytest.raises(PlacementError, match="PEFT takes for the weights of fused experts"):
        resolve_targets(model, stacks, ["down_proj"])


def test_experts_in_a_list_are_left_out(families):
    model, stacks = parts(families, "llama")
    for block in model.model.layers:
        block.mlp.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        block.mlp.shared_expert = nn.Linear(32, 32)
    names = {t.name.rpartition("mlp.")[2] for t in adaptable(model, stacks)}
    assert "shared_expert" in names
    assert not [name for name in names if name.startswith("experts")]


def test_a_module_that_blocks_share_belongs_to_no_depth(families):
    model, stacks = parts(families, "llama")
    shared = nn.Linear(32, 32)
    for block in model.model.layers:
        block.shared = shared
    assert not [t for t in adaptable(model, stacks) if t.name.endswith("shared")]


def test_blocks_without_linear_modules_cannot_be_adapted():
    config = tf.SqueezeBertConfig(
        hidden_size=32, embedding_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, vocab_size=67,
    )  # fmt: skip
    with torch.device("meta"):
        model = tf.SqueezeBertForMaskedLM(config)
    with pytest.raises(PlacementError, match="no linear module in any block"):
        resolve_targets(model, find_stacks(model))
