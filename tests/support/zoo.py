"""One zoo of tiny models: how each family is configured, and what is known of its stacks.

A family is configured at a size. Models of `MIDDLE` show signals and stacks; `text` has the small
ones that learn its words.
"""

import inspect
from dataclasses import dataclass

import torch
import transformers as tf


@dataclass(frozen=True)
class Size:
    """How large a model is made; `places` are positions, `words` the vocabulary."""

    words: int
    width: int
    blocks: int
    heads: int
    inner: int
    places: int = 64


MIDDLE = Size(words=97, width=32, blocks=3, heads=4, inner=48)

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
CLASSES = {"id2label": {0: "neg", 1: "pos", 2: "odd"}, "label2id": {"neg": 0, "pos": 1, "odd": 2}}
QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
BERT = ("query", "key", "value", "dense")
OPT = ("q_proj", "k_proj", "v_proj", "out_proj")


def _wide(s):
    return {
        "hidden_size": s.width, "num_hidden_layers": s.blocks, "num_attention_heads": s.heads,
        "vocab_size": s.words,
    }  # fmt: skip


def _small(s):
    return {**_wide(s), "intermediate_size": s.inner, "max_position_embeddings": s.places, **IDS}


def _grouped(s):
    return {**_small(s), "num_key_value_heads": 2}


def _gpt(s):
    return {
        "n_embd": s.width, "n_layer": s.blocks, "n_head": s.heads, "vocab_size": s.words,
        "n_positions": s.places, **IDS,
    }  # fmt: skip


def _state(s):
    return {
        "hidden_size": s.width, "num_hidden_layers": s.blocks, "vocab_size": s.words,
        "state_size": 4, **IDS,
    }  # fmt: skip


def _pair(s):
    return {
        "d_model": s.width, "encoder_layers": 2, "decoder_layers": s.blocks,
        "encoder_attention_heads": s.heads, "decoder_attention_heads": s.heads,
        "encoder_ffn_dim": s.inner, "decoder_ffn_dim": s.inner, "vocab_size": s.words,
        "max_position_embeddings": s.places, **IDS, "decoder_start_token_id": 2,
    }  # fmt: skip


def _t5(s):
    return {
        "d_model": s.width, "d_kv": 8, "d_ff": s.inner, "num_layers": s.blocks,
        "num_heads": s.heads, "vocab_size": s.words,
        "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
    }  # fmt: skip


def _usual(config, made, **options):
    """A decoder as most are: RMS norms before attention and MLP, one more after the last block."""
    make = lambda s: config(**_grouped(s), **options)  # noqa: E731
    return make, made, "model.layers", "sequential", "model.norm", QKVO


# name: (configuration, model class, stack, residual, final norm, default targets)
ONE_STACK = {
    "llama": _usual(tf.LlamaConfig, "LlamaForCausalLM"),
    "qwen2": _usual(tf.Qwen2Config, "Qwen2ForCausalLM"),
    "mistral": _usual(tf.MistralConfig, "MistralForCausalLM"),
    "gemma3": _usual(tf.Gemma3TextConfig, "Gemma3ForCausalLM", head_dim=8, sliding_window=6),
    "smollm3": _usual(tf.SmolLM3Config, "SmolLM3ForCausalLM"),
    "olmo2": _usual(tf.Olmo2Config, "Olmo2ForCausalLM"),
    "phi3": (
        lambda s: tf.Phi3Config(**_grouped(s)),
        "Phi3ForCausalLM", "model.layers", "sequential", "model.norm", ("o_proj", "qkv_proj"),
    ),
    "phi": (
        lambda s: tf.PhiConfig(**_small(s)),
        "PhiForCausalLM", "model.layers", "parallel", "model.final_layernorm",
        ("q_proj", "k_proj", "v_proj", "dense"),
    ),
    "cohere": (
        lambda s: tf.CohereConfig(**_grouped(s)),
        "CohereForCausalLM", "model.layers", "parallel", "model.norm", QKVO,
    ),
    "qwen3_moe": _usual(tf.Qwen3MoeConfig, "Qwen3MoeForCausalLM", **MOE, head_dim=8, num_experts=4),
    "gpt2": (
        lambda s: tf.GPT2Config(**_gpt(s)),
        "GPT2LMHeadModel", "transformer.h", "sequential", "transformer.ln_f",
        ("c_attn", "c_proj", "c_fc"),
    ),
    "gptj": (
        lambda s: tf.GPTJConfig(**_gpt(s), rotary_dim=4),
        "GPTJForCausalLM", "transformer.h", "parallel", "transformer.ln_f", OPT,
    ),
    "codegen": (
        lambda s: tf.CodeGenConfig(**_gpt(s), n_ctx=s.places, rotary_dim=4),
        "CodeGenForCausalLM", "transformer.h", "parallel", "transformer.ln_f",
        ("qkv_proj", "out_proj", "fc_in", "fc_out"),
    ),
    "gpt_neox": (
        lambda s: tf.GPTNeoXConfig(**_small(s)),
        "GPTNeoXForCausalLM", "gpt_neox.layers", "parallel", "gpt_neox.final_layer_norm",
        ("query_key_value", "dense"),
    ),
    "gpt_neox_sequential": (
        lambda s: tf.GPTNeoXConfig(**_small(s), use_parallel_residual=False),
        "GPTNeoXForCausalLM", "gpt_neox.layers", "sequential", "gpt_neox.final_layer_norm",
        ("query_key_value", "dense"),
    ),
    "falcon": (
        lambda s: tf.FalconConfig(**_wide(s), **IDS),
        "FalconForCausalLM", "transformer.h", "parallel", "transformer.ln_f",
        ("query_key_value", "dense"),
    ),
    "falcon_two_norms": (
        lambda s: tf.FalconConfig(**_wide(s), **IDS, new_decoder_architecture=True, num_kv_heads=2),
        "FalconForCausalLM", "transformer.h", "parallel", "transformer.ln_f",
        ("query_key_value", "dense"),
    ),
    "falcon_sequential": (
        lambda s: tf.FalconConfig(**_wide(s), **IDS, parallel_attn=False),
        "FalconForCausalLM", "transformer.h", "sequential", "transformer.ln_f",
        ("query_key_value", "dense"),
    ),
    "opt": (
        lambda s: tf.OPTConfig(
            **_wide(s), **IDS, ffn_dim=s.inner, word_embed_proj_dim=s.width,
            max_position_embeddings=s.places
        ),
        "OPTForCausalLM", "model.decoder.layers", "sequential", "model.decoder.final_layer_norm",
        OPT,
    ),
    "mamba": (
        lambda s: tf.MambaConfig(**_state(s)),
        "MambaForCausalLM", "backbone.layers", "none", "backbone.norm_f", ("in_proj", "x_proj"),
    ),
    "mamba2": (
        lambda s: tf.Mamba2Config(**_state(s), num_heads=8, head_dim=8, n_groups=2),
        "Mamba2ForCausalLM", "backbone.layers", "none", "backbone.norm_f",
        ("in_proj",),
    ),
    "rwkv": (
        lambda s: tf.RwkvConfig(
            hidden_size=s.width, num_hidden_layers=s.blocks, vocab_size=s.words,
            intermediate_size=s.inner, context_length=s.places, **IDS
        ),
        "RwkvForCausalLM", "rwkv.blocks", "none", "rwkv.ln_out",
        ("key", "value", "receptance", "output"),
    ),
    "lfm2": (
        lambda s: tf.Lfm2Config(
            **_grouped(s), layer_types=["conv", "full_attention", "conv"],
            block_auto_adjust_ff_dim=False,
        ),
        "Lfm2ForCausalLM", "model.layers", "sequential", "model.embedding_norm",
        ("in_proj", "out_proj", "w1", "w3", "w2", "q_proj", "k_proj", "v_proj"),
    ),
    "ctrl": (
        lambda s: tf.CTRLConfig(
            n_embd=s.width, n_layer=s.blocks, n_head=s.heads, dff=s.inner, vocab_size=s.words,
            n_positions=s.places
        ),
        "CTRLLMHeadModel", "transformer.h", "sequential", "transformer.layernorm",
        ("Wq", "Wk", "Wv", "dense"),
    ),
    "bert": (
        lambda s: tf.BertConfig(**_small(s)),
        "BertForMaskedLM", "bert.encoder.layer", "sequential", None, BERT,
    ),
    "roberta": (
        lambda s: tf.RobertaConfig(**_small(s)),
        "RobertaForMaskedLM", "roberta.encoder.layer", "sequential", None, BERT,
    ),
    "xlm-roberta-xl": (
        lambda s: tf.XLMRobertaXLConfig(**_small(s)),
        "XLMRobertaXLForMaskedLM", "roberta.encoder.layer", "sequential",
        "roberta.encoder.LayerNorm", BERT,
    ),
    "modernbert": (
        lambda s: tf.ModernBertConfig(**_small(s), cls_token_id=1, sep_token_id=2),
        "ModernBertForMaskedLM", "model.layers", "sequential", "model.final_norm",
        ("Wqkv", "attn.Wo"),
    ),
    "deberta-v2": (
        lambda s: tf.DebertaV2Config(
            **_small(s), relative_attention=True, norm_rel_ebd="layer_norm",
            pos_att_type=["p2c", "c2p"], position_buckets=8,
        ),
        "DebertaV2ForMaskedLM", "deberta.encoder.layer", "sequential", None,
        ("query_proj", "key_proj", "value_proj", "attention.output.dense"),
    ),
    "distilbert": (
        lambda s: tf.DistilBertConfig(
            dim=s.width, n_layers=s.blocks, n_heads=s.heads, hidden_dim=s.inner,
            vocab_size=s.words, pad_token_id=0,
            max_position_embeddings=s.places,
        ),
        "DistilBertForMaskedLM", "distilbert.transformer.layer", "sequential", None,
        ("q_lin", "k_lin", "v_lin", "out_lin"),
    ),
    "mpnet": (
        lambda s: tf.MPNetConfig(**_small(s)),
        "MPNetForMaskedLM", "mpnet.encoder.layer", "sequential", None, ("q", "k", "v", "o"),
    ),
    "fnet": (
        lambda s: tf.FNetConfig(
            hidden_size=s.width, num_hidden_layers=s.blocks, intermediate_size=s.inner,
            vocab_size=s.words, **IDS
        ),
        "FNetForMaskedLM", "fnet.encoder.layer", "sequential", None, ("dense",),
    ),
}  # fmt: skip

# name: (configuration, model class, {stack: (blocks, final norm)}, default targets)
TWO_STACKS = {
    "t5": (
        lambda s: tf.T5Config(**_t5(s)),
        "T5ForConditionalGeneration",
        {
            "encoder.block": (3, "encoder.final_layer_norm"),
            "decoder.block": (3, "decoder.final_layer_norm"),
        },
        ("q", "k", "v", "o"),
    ),
    "bart": (
        lambda s: tf.BartConfig(**_pair(s)),
        "BartForConditionalGeneration",
        {"model.encoder.layers": (2, None), "model.decoder.layers": (3, None)},
        OPT,
    ),
    "mbart": (
        lambda s: tf.MBartConfig(**_pair(s)),
        "MBartForConditionalGeneration",
        {
            "model.encoder.layers": (2, "model.encoder.layer_norm"),
            "model.decoder.layers": (3, "model.decoder.layer_norm"),
        },
        OPT,
    ),
}

# Families whose depth is no list of blocks, and why.
REFUSED = {
    "xlm": (
        lambda s: tf.XLMConfig(
            emb_dim=s.width, n_layers=s.blocks, n_heads=s.heads, vocab_size=s.words
        ),
        "XLMWithLMHeadModel", "several could be the blocks",
    ),
    "flaubert": (
        lambda s: tf.FlaubertConfig(
            emb_dim=s.width, n_layers=s.blocks, n_heads=s.heads, vocab_size=s.words
        ),
        "FlaubertWithLMHeadModel", "several could be the blocks",
    ),
    "funnel": (lambda _: tf.FunnelConfig(), "FunnelForMaskedLM", "half as many tokens"),
    "perceiver": (lambda _: tf.PerceiverConfig(), "PerceiverForMaskedLM", "latents, not tokens"),
    "hrm_text": (lambda _: tf.HrmTextConfig(), "HrmTextForCausalLM", "run in turn, many times"),
    "blt": (lambda _: tf.BltConfig(), "BltForCausalLM", "patches of them"),
}  # fmt: skip

# name: (configuration, model class) of what is no family of its own: heads, and scaled logits.
VARIANTS = {
    "gemma2": (
        lambda s: tf.Gemma2Config(**_grouped(s), head_dim=8, final_logit_softcapping=3.0),
        "Gemma2ForCausalLM",
    ),
    "granite": (
        lambda s: tf.GraniteConfig(**_small(s), logits_scaling=4.0), "GraniteForCausalLM",
    ),
    "mobilebert": (
        lambda s: tf.MobileBertConfig(
            **_small(s), embedding_size=8, intra_bottleneck_size=16, num_feedforward_networks=1
        ),
        "MobileBertForPreTraining",
    ),
    "albert": (lambda s: tf.AlbertConfig(**_small(s)), "AlbertForMaskedLM"),
    "xlnet": (
        lambda s: tf.XLNetConfig(
            d_model=s.width, n_layer=s.blocks, n_head=s.heads, d_inner=s.inner, vocab_size=s.words
        ),
        "XLNetLMHeadModel",
    ),
    "encoder": (lambda s: tf.BertConfig(**_small(s)), "BertModel"),
    "pretraining": (lambda s: tf.BertConfig(**_small(s)), "BertForPreTraining"),
    "next_sentence": (lambda s: tf.BertConfig(**_small(s)), "BertForNextSentencePrediction"),
    "bert_classifier": (
        lambda s: tf.BertConfig(**_small(s), **CLASSES), "BertForSequenceClassification",
    ),
    "llama_classifier": (
        lambda s: tf.LlamaConfig(**_grouped(s), **CLASSES), "LlamaForSequenceClassification",
    ),
}  # fmt: skip

KINDS = {
    "MaskedLM": "masked", "PreTraining": "masked", "ConditionalGeneration": "seq2seq",
    "SequenceClassification": "classifier", "NextSentencePrediction": "encoder",
    "BertModel": "encoder",
}  # fmt: skip


def _known(name):
    return next(t[name] for t in (ONE_STACK, TWO_STACKS, VARIANTS, REFUSED) if name in t)


def kind(name):
    """What the head of the model called `name` does."""
    made = _known(name)[1]
    return next((kind for head, kind in KINDS.items() if made.endswith(head)), "causal")


def config_and_class(name, size=MIDDLE):
    config, made = _known(name)[:2]
    return config(size), getattr(tf, made)


def build(name, *, size=MIDDLE, kind=None, seed=0, **overrides):
    """The model with random weights, in eval mode; `kind` is another class to make."""
    config, made = config_and_class(name, size)
    for key, value in overrides.items():
        setattr(config, key, value)
    torch.manual_seed(seed)
    return (kind or made)(config).eval()


def on_meta(name):
    config, made = config_and_class(name)
    with torch.device("meta"):
        return made(config)


def run(model, *, n=2, t=7):
    """One forward pass over `n` random texts of `t` tokens."""
    words = torch.Generator().manual_seed(0)
    ids = torch.randint(3, MIDDLE.words, (n, t), generator=words)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :5]
    inputs["use_cache"] = False
    named = inspect.signature(model.forward).parameters
    return model(**{name: value for name, value in inputs.items() if name in named})
