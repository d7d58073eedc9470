"""Embeddings let gradients into every block; final norms are those that the model applies."""

import pytest
import torch
import transformers as tf

from layerwise.models.parts import embeddings, final_norm, owner, position_limit
from layerwise.models.stack import all_refs, find_stacks
from support.versions import FOUR


def test_gradients_reach_every_block_of_a_frozen_model(families, family):
    model = families.build(family).requires_grad_(requires_grad=False)
    refs, outputs = all_refs(find_stacks(model)), {}
    for module in embeddings(model):
        module.register_forward_hook(lambda _m, _i, out: out.requires_grad_().clone())
    for ref in refs:

        def keep(_module, _inputs, output, name=ref.name):
            outputs[name] = output[0] if isinstance(output, tuple) else output
            outputs[name].retain_grad()

        model.get_submodule(ref.name).register_forward_hook(keep)
    families.run(model).logits.square().sum().backward()
    assert all(outputs[ref.name].grad.abs().sum() > 0 for ref in refs)


def test_embeddings_come_once_where_two_stacks_share_them(families):
    assert len(embeddings(families.build("llama"))) == 1
    bart = families.build("bart")
    assert {id(m) for m in embeddings(bart)} == {
        id(bart.model.encoder.embed_tokens),
        id(bart.model.decoder.embed_tokens),
    }


def norms(families, family):
    if family in families.ONE_STACK:
        known = families.ONE_STACK[family]
        return {known[2]: known[4]}
    return {name: norm for name, (_, norm) in families.TWO_STACKS[family][2].items()}


def test_final_norm_of_each_family(families, family):
    model = families.build(family)
    for stack in find_stacks(model):
        name = norms(families, family)[stack.name]
        expected = None if name is None else model.get_submodule(name)
        assert final_norm(model, stack) is expected


def test_final_norm_turns_the_last_block_into_the_last_hidden_state(families, one_stack):
    if one_stack == "modernbert" and FOUR:
        pytest.skip("its last hidden state is before the norm in transformers 4")
    model = families.build(one_stack)
    (stack,), kept = find_stacks(model), []
    for parameter in model.parameters():  # away from the identity that norms begin as
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    model.get_submodule(stack.blocks[-1]).register_forward_hook(lambda _m, _i, o: kept.append(o))
    model.config.output_hidden_states = True
    last = families.run(model).hidden_states[-1]
    block = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
    norm = final_norm(model, stack)
    torch.testing.assert_close(last, block if norm is None else norm(block))


def test_final_norm_of_opt_before_its_norms_moved(families):
    model = families.build("opt", do_layer_norm_before=False)
    assert final_norm(model, find_stacks(model)[0]) is None


def test_owner_is_the_innermost_model(families):
    model = families.build("t5")
    assert owner(model, "encoder.block") == ("encoder", model.encoder)
    assert owner(model, "shared") == ("", model)
    assert owner(torch.nn.Sequential(torch.nn.Linear(1, 1)), "0") is None


def test_a_tower_of_other_things_than_tokens_is_passed_over(families, monkeypatch):
    def refuse(_self):
        raise NotImplementedError

    monkeypatch.setattr(tf.LlamaModel, "get_input_embeddings", refuse)
    assert embeddings(families.build("llama")) == ()


def test_the_limit_of_a_tower_of_pictures_is_not_that_of_text(families):
    vision = tf.CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    rotary = families.build("llama").config
    model = tf.LlavaForConditionalGeneration(
        tf.LlavaConfig(vision_config=vision, text_config=rotary)
    )
    assert position_limit(model) is None
    if FOUR:
        pytest.skip("CLIP's text tower is no model of its own in transformers 4")
    both = tf.CLIPModel(tf.CLIPConfig(vision_config=vision.to_dict(), text_config=tf.CLIPTextConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        vocab_size=97, max_position_embeddings=20,
    ).to_dict()))  # fmt: skip
    assert position_limit(both) == 20
