"""Every parameter has one role and lies in one block or in none."""

from collections import Counter

import pytest
import transformers as tf

from layerwise.models.roles import roles
from layerwise.models.stack import all_refs, find_stacks
from support.versions import FUSED


def by_name(model):
    return {found.name: found for found in roles(model, find_stacks(model))}


def test_every_parameter_once(families, family):
    model = families.build(family)
    found = roles(model, find_stacks(model))
    assert [role.name for role in found] == [name for name, _ in model.named_parameters()]


def test_rows_are_those_of_the_blocks(families, family):
    model = families.build(family)
    refs = all_refs(find_stacks(model))
    for found in by_name(model).values():
        inside = [i for i, ref in enumerate(refs) if found.name.startswith(ref.name + ".")]
        assert found.row == (inside[0] if inside else None)


def test_roles_of_llama(families):
    found = by_name(families.build("llama"))
    assert {name: role.role for name, role in found.items() if role.row in {None, 0}} == {
        "model.embed_tokens.weight": "embedding",
        "model.layers.0.self_attn.q_proj.weight": "attention",
        "model.layers.0.self_attn.k_proj.weight": "attention",
        "model.layers.0.self_attn.v_proj.weight": "attention",
        "model.layers.0.self_attn.o_proj.weight": "attention",
        "model.layers.0.mlp.gate_proj.weight": "mlp",
        "model.layers.0.mlp.up_proj.weight": "mlp",
        "model.layers.0.mlp.down_proj.weight": "mlp",
        "model.layers.0.input_layernorm.weight": "norm",
        "model.layers.0.post_attention_layernorm.weight": "norm",
        "model.norm.weight": "norm",
        "lm_head.weight": "head",
    }


@pytest.mark.parametrize(
    ("name", "parameter", "role"),
    [
        ("gpt2", "transformer.wpe.weight", "embedding"),
        ("gpt2", "transformer.h.1.mlp.c_proj.weight", "mlp"),
        ("gpt2", "transformer.h.1.ln_2.bias", "norm"),
        ("bert", "bert.encoder.layer.0.attention.output.dense.weight", "attention"),
        ("bert", "bert.encoder.layer.0.attention.output.LayerNorm.weight", "norm"),
        ("bert", "bert.encoder.layer.0.output.dense.weight", "mlp"),
        ("bert", "bert.embeddings.token_type_embeddings.weight", "embedding"),
        ("bert", "bert.embeddings.LayerNorm.weight", "norm"),
        ("bert", "cls.predictions.transform.dense.weight", "head"),
        ("bert", "cls.predictions.transform.LayerNorm.weight", "norm"),
        ("opt", "model.decoder.layers.0.fc1.weight", "mlp"),
        ("mamba", "backbone.layers.0.mixer.in_proj.weight", "other"),
        ("mamba", "backbone.layers.0.norm.weight", "norm"),
        ("rwkv", "rwkv.blocks.0.attention.time_decay", "attention"),
        ("rwkv", "rwkv.blocks.0.feed_forward.key.weight", "mlp"),
        ("rwkv", "rwkv.blocks.0.pre_ln.weight", "norm"),
        ("t5", "encoder.block.0.layer.0.SelfAttention.q.weight", "attention"),
        ("t5", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "attention"),
        ("t5", "decoder.block.0.layer.1.EncDecAttention.k.weight", "attention"),
        ("t5", "decoder.block.0.layer.2.DenseReluDense.wo.weight", "mlp"),
        ("t5", "decoder.block.0.layer.2.layer_norm.weight", "norm"),
        pytest.param(
            "qwen3_moe",
            "model.layers.0.mlp.experts.down_proj",
            "mlp",
            marks=FUSED,
        ),
        ("qwen3_moe", "model.layers.0.mlp.gate.weight", "mlp"),
        ("codegen", "lm_head.bias", "head"),
    ],
)
def test_role_of(families, name, parameter, role):
    assert by_name(families.build(name))[parameter].role == role


def test_tied_weights_are_one_embedding(families):
    found = by_name(families.build("llama", tie_word_embeddings=True))
    assert "lm_head.weight" not in found
    assert found["model.embed_tokens.weight"].role == "embedding"
    assert Counter(f.role for f in found.values())["head"] == 0


def test_bare_models_have_no_head(families):
    found = by_name(families.build("bert", kind=tf.BertModel))
    assert {f.role for f in found.values()} == {"attention", "mlp", "norm", "embedding", "other"}
    assert [f.name for f in found.values() if f.role == "other"] == [
        "pooler.dense.weight",
        "pooler.dense.bias",
    ]
