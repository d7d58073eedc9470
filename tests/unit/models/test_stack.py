"""Stacks are found by structure, or refused with the lists that exist."""

import pytest
import torch
import transformers as tf
from peft import LoraConfig, get_peft_model
from torch import nn

from layerwise.errors import StackError
from layerwise.models.stack import all_refs, blocks_of, find_stacks


def test_each_family_has_its_stack(families, one_stack):
    _, _, name, residual, _, _ = families.ONE_STACK[one_stack]
    (stack,) = find_stacks(families.build(one_stack))
    assert (stack.name, stack.residual, stack.side) == (name, residual, "decoder")
    assert stack.blocks == tuple(f"{name}.{i}" for i in range(3))


def test_blocks_are_the_modules_that_run_in_that_order(families, family):
    model = families.build(family)
    refs, ran = all_refs(find_stacks(model)), []
    for ref in refs:
        model.get_submodule(ref.name).register_forward_hook(lambda *_, r=ref: ran.append(r))
    families.run(model)
    assert tuple(ran) == refs


def test_block_class_is_that_of_most_blocks(families):
    assert find_stacks(families.build("gpt2"))[0].block_class == "GPT2Block"
    config = families.config_and_class("llama")[0]
    model = tf.LlamaForCausalLM(config)
    model.model.layers[0] = type("Odd", (type(model.model.layers[0]),), {})(config, 0)
    assert find_stacks(model)[0].block_class == "LlamaDecoderLayer"


def test_meta_models_have_the_same_stacks(families, family):
    assert find_stacks(families.on_meta(family)) == find_stacks(families.build(family))


def test_two_stacks_come_encoder_first(families, two_stacks):
    known = families.TWO_STACKS[two_stacks][2]
    stacks = find_stacks(families.build(two_stacks))
    assert [(s.name, len(s.blocks)) for s in stacks] == [(n, v[0]) for n, v in known.items()]
    assert [s.side for s in stacks] == ["encoder", "decoder"]
    indices = [i for blocks, _ in known.values() for i in range(blocks)]
    assert [ref.index for ref in all_refs(stacks)] == indices


@pytest.mark.parametrize(
    ("named", "bare", "name"),
    [
        ("llama", tf.LlamaModel, "layers"),
        ("gpt2", tf.GPT2Model, "h"),
        ("bert", tf.BertModel, "encoder.layer"),
        ("mamba", tf.MambaModel, "layers"),
        ("mpnet", tf.MPNetModel, "encoder.layer"),
    ],
)
def test_bare_models_have_no_prefix(families, named, bare, name):
    (stack,) = find_stacks(families.build(named, kind=bare))
    assert stack.name == name


def test_the_encoder_alone_is_not_one_of_two_sides(families):
    (stack,) = find_stacks(families.build("t5", kind=tf.T5EncoderModel))
    assert (stack.name, stack.side) == ("encoder.block", "decoder")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_wrapped_models_keep_their_stacks(families, family):
    plain = find_stacks(families.build(family))
    target = families.build(family)
    last = families.ONE_STACK.get(family, families.TWO_STACKS.get(family))[-1]
    config = LoraConfig(target_modules=list(last), fan_in_fan_out=family == "gpt2")
    wrapped = get_peft_model(target, config)
    stacks = find_stacks(wrapped)
    assert [s.name for s in stacks] == [f"base_model.model.{s.name}" for s in plain]
    assert [(s.residual, s.side) for s in stacks] == [(s.residual, s.side) for s in plain]


def test_vision_language_models_have_a_stack_for_each():
    text = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "vocab_size": 67}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = tf.LlavaConfig(
        text_config=tf.LlamaConfig(**text, num_hidden_layers=3, num_key_value_heads=2),
        vision_config=tf.CLIPVisionConfig(
            **vision, num_hidden_layers=2, image_size=8, patch_size=4
        ),
    )
    with torch.device("meta"):
        model = tf.LlavaForConditionalGeneration(config)
    found = {s.name: len(s.blocks) for s in find_stacks(model)}
    assert {name.split(".")[1]: n for name, n in found.items()} == {
        "vision_tower": 2,
        "language_model": 3,
    }


def test_other_families_are_refused_with_what_was_found(families, refused):
    if not hasattr(tf, families.REFUSED[refused][1]):
        pytest.skip(f"{refused} came later")
    with pytest.raises(StackError, match=families.REFUSED[refused][2]) as error:
        find_stacks(families.on_meta(refused))
    assert "the module lists here are: " in str(error.value)
    assert error.value.exit_code == 2


def test_a_refusal_names_lists_lengths_and_classes(families):
    with pytest.raises(StackError, match=r"transformer.attentions \(3 x MultiHeadAttention\)"):
        find_stacks(families.on_meta("xlm"))


@pytest.mark.parametrize("groups", [1, 3])
def test_blocks_that_share_weights_are_as_many_as_their_groups(families, groups):
    (stack,) = find_stacks(families.build("albert", num_hidden_groups=groups))
    assert stack.name == "albert.encoder.albert_layer_groups"
    assert len(stack.blocks) == groups


def test_one_module_in_several_places_is_refused(families):
    model = families.build("llama")
    model.model.layers = nn.ModuleList([model.model.layers[0]] * 3)
    with pytest.raises(StackError, match="one module serves as several blocks"):
        find_stacks(model)


def test_a_list_that_the_configuration_does_not_know_is_refused(families):
    model = families.build("llama")
    model.model.layers = model.model.layers[:2]
    with pytest.raises(StackError, match=r"none has the configured depth \[3\]"):
        find_stacks(model)
    model.config.num_hidden_layers = 2
    assert len(find_stacks(model)[0].blocks) == 2


def test_a_model_without_lists_is_refused():
    with pytest.raises(StackError, match="the module lists here are: none"):
        find_stacks(nn.Linear(2, 2))


def test_blocks_are_told_by_whole_numbers(families):
    stacks = find_stacks(families.build("llama", num_hidden_layers=12))
    names = ["model.layers.11.mlp.up_proj.weight", "model.layers.1", "model.norm.weight"]
    found = blocks_of(names, stacks)
    assert {name: ref.index for name, ref in found.items()} == {names[0]: 11, names[1]: 1}
    assert found[names[0]] == all_refs(stacks)[11]
