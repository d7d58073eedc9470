"""Tiny models of many families and what is known of each; loaded by a fixture, not imported."""

import torch
import transformers as tf

VOCAB = 67
WIDTH = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": VOCAB}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL = {**WIDTH, "intermediate_size": 48, "max_position_embeddings": 32, **IDS}
GROUPED = {**SMALL, "num_key_value_heads": 2}
GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": VOCAB, "n_positions": 32, **IDS}
PAIR = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "vocab_size": VOCAB,
    "max_position_embeddings": 32,
    **IDS,
    "decoder_start_token_id": 2,
}
STATE = {"hidden_size": 32, "num_hidden_layers": 3, "vocab_size": VOCAB, "state_size": 4, **IDS}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
BERT = ("query", "key", "value", "dense")
OPT = ("q_proj", "k_proj", "v_proj", "out_proj")

# name: (configuration, model class, stack, residual, final norm, default targets)
ONE_STACK = {
    "llama": (
        lambda: tf.LlamaConfig(**GROUPED),
        tf.LlamaForCausalLM, "model.layers", "sequential", "model.norm", QKVO,
    ),
    "qwen2": (
        lambda: tf.Qwen2Config(**GROUPED),
        tf.Qwen2ForCausalLM, "model.layers", "sequential", "model.norm", QKVO,
    ),
    "mistral": (
        lambda: tf.MistralConfig(**GROUPED),
        tf.MistralForCausalLM, "model.layers", "sequential", "model.norm", QKVO,
    ),
    "gemma3": (
        lambda: tf.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=6),
        tf.Gemma3ForCausalLM, "model.layers", "sequential", "model.norm", QKVO,
    ),
    "smollm3": (
        lambda: tf.SmolLM3Config(**GROUPED),
        tf.SmolLM3ForCausalLM, "model.layers", "sequential", "model.norm", QKVO,
    ),
    "olmo2": (
        lambda: tf.Olmo2Config(**GROUPED),
        tf.Olmo2ForCausalLM, "model.layers", "sequential", "model.norm", QKVO,
    ),
    "phi3": (
        lambda: tf.Phi3Config(**GROUPED),
        tf.Phi3ForCausalLM, "model.layers", "sequential", "model.norm", ("o_proj", "qkv_proj"),
    ),
    "phi": (
        lambda: tf.PhiConfig(**SMALL),
        tf.PhiForCausalLM, "model.layers", "parallel", "model.final_layernorm",
        ("q_proj", "k_proj", "v_proj", "dense"),
    ),
    "cohere": (
        lambda: tf.CohereConfig(**GROUPED),
        tf.CohereForCausalLM, "model.layers", "parallel", "model.norm", QKVO,
    ),
    "qwen3_moe": (
        lambda: tf.Qwen3MoeConfig(**GROUPED, **MOE, head_dim=8, num_experts=4),
        tf.Qwen3MoeForCausalLM, "model.layers", "sequential", "model.norm", QKVO,
    ),
    "gpt2": (
        lambda: tf.GPT2Config(**GPT),
        tf.GPT2LMHeadModel, "transformer.h", "sequential", "transformer.ln_f",
        ("c_attn", "c_proj", "c_fc"),
    ),
    "gptj": (
        lambda: tf.GPTJConfig(**GPT, rotary_dim=4),
        tf.GPTJForCausalLM, "transformer.h", "parallel", "transformer.ln_f", OPT,
    ),
    "codegen": (
        lambda: tf.CodeGenConfig(**GPT, n_ctx=32, rotary_dim=4),
        tf.CodeGenForCausalLM, "transformer.h", "parallel", "transformer.ln_f",
        ("qkv_proj", "out_proj", "fc_in", "fc_out"),
    ),
    "gpt_neox": (
        lambda: tf.GPTNeoXConfig(**SMALL),
        tf.GPTNeoXForCausalLM, "gpt_neox.layers", "parallel", "gpt_neox.final_layer_norm",
        ("query_key_value", "dense"),
    ),
    "gpt_neox_sequential": (
        lambda: tf.GPTNeoXConfig(**SMALL, use_parallel_residual=False),
        tf.GPTNeoXForCausalLM, "gpt_neox.layers", "sequential", "gpt_neox.final_layer_norm",
        ("query_key_value", "dense"),
    ),
    "falcon": (
        lambda: tf.FalconConfig(**WIDTH, **IDS),
        tf.FalconForCausalLM, "transformer.h", "parallel", "transformer.ln_f",
        ("query_key_value", "dense"),
    ),
    "falcon_two_norms": (
        lambda: tf.FalconConfig(**WIDTH, **IDS, new_decoder_architecture=True, num_kv_heads=2),
        tf.FalconForCausalLM, "transformer.h", "parallel", "transformer.ln_f",
        ("query_key_value", "dense"),
    ),
    "falcon_sequential": (
        lambda: tf.FalconConfig(**WIDTH, **IDS, parallel_attn=False),
        tf.FalconForCausalLM, "transformer.h", "sequential", "transformer.ln_f",
        ("query_key_value", "dense"),
    ),
    "opt": (
        lambda: tf.OPTConfig(
            **WIDTH, **IDS, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=32
        ),
        tf.OPTForCausalLM, "model.decoder.layers", "sequential", "model.decoder.final_layer_norm",
        OPT,
    ),
    "mamba": (
        lambda: tf.MambaConfig(**STATE),
        tf.MambaForCausalLM, "backbone.layers", "none", "backbone.norm_f", ("in_proj", "x_proj"),
    ),
    "mamba2": (
        lambda: tf.Mamba2Config(**STATE, num_heads=8, head_dim=8, n_groups=2),
        tf.Mamba2ForCausalLM, "backbone.layers", "none", "backbone.norm_f",
        ("in_proj",),
    ),
    "rwkv": (
        lambda: tf.RwkvConfig(
            hidden_size=32, num_hidden_layers=3, vocab_size=VOCAB, context_length=32, **IDS
        ),
        tf.RwkvForCausalLM, "rwkv.blocks", "none", "rwkv.ln_out",
        ("key", "value", "receptance", "output"),
    ),
    "lfm2": (
        lambda: tf.Lfm2Config(
            **GROUPED, layer_types=["conv", "full_attention", "conv"],
            block_auto_adjust_ff_dim=False,
        ),
        tf.Lfm2ForCausalLM, "model.layers", "sequential", "model.embedding_norm",
        ("in_proj", "out_proj", "w1", "w3", "w2", "q_proj", "k_proj", "v_proj"),
    ),
    "ctrl": (
        lambda: tf.CTRLConfig(
            n_embd=32, n_layer=3, n_head=4, dff=48, vocab_size=VOCAB, n_positions=32
        ),
        tf.CTRLLMHeadModel, "transformer.h", "sequential", "transformer.layernorm",
        ("Wq", "Wk", "Wv", "dense"),
    ),
    "bert": (
        lambda: tf.BertConfig(**SMALL),
        tf.BertForMaskedLM, "bert.encoder.layer", "sequential", None, BERT,
    ),
    "roberta": (
        lambda: tf.RobertaConfig(**SMALL),
        tf.RobertaForMaskedLM, "roberta.encoder.layer", "sequential", None, BERT,
    ),
    "xlm-roberta-xl": (
        lambda: tf.XLMRobertaXLConfig(**SMALL),
        tf.XLMRobertaXLForMaskedLM, "roberta.encoder.layer", "sequential",
        "roberta.encoder.LayerNorm", BERT,
    ),
    "modernbert": (
        lambda: tf.ModernBertConfig(**SMALL, cls_token_id=1, sep_token_id=2),
        tf.ModernBertForMaskedLM, "model.layers", "sequential", "model.final_norm",
        ("Wqkv", "attn.Wo"),
    ),
    "deberta-v2": (
        lambda: tf.DebertaV2Config(
            **SMALL, relative_attention=True, norm_rel_ebd="layer_norm",
            pos_att_type=["p2c", "c2p"], position_buckets=8,
        ),
        tf.DebertaV2ForMaskedLM, "deberta.encoder.layer", "sequential", None,
        ("query_proj", "key_proj", "value_proj", "attention.output.dense"),
    ),
    "distilbert": (
        lambda: tf.DistilBertConfig(
            dim=32, n_layers=3, n_heads=4, hidden_dim=48, vocab_size=VOCAB, pad_token_id=0,
            max_position_embeddings=32,
        ),
        tf.DistilBertForMaskedLM, "distilbert.transformer.layer", "sequential", None,
        ("q_lin", "k_lin", "v_lin", "out_lin"),
    ),
    "mpnet": (
        lambda: tf.MPNetConfig(**SMALL),
        tf.MPNetForMaskedLM, "mpnet.encoder.layer", "sequential", None, ("q", "k", "v", "o"),
    ),
    "fnet": (
        lambda: tf.FNetConfig(
            hidden_size=32, num_hidden_layers=3, intermediate_size=48, vocab_size=VOCAB, **IDS
        ),
        tf.FNetForMaskedLM, "fnet.encoder.layer", "sequential", None, ("dense",),
    ),
}  # fmt: skip

T5_SIZES = {
    "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "vocab_size": VOCAB,
    "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip

# name: (configuration, model class, {stack: (blocks, final norm)}, default targets)
TWO_STACKS = {
    "t5": (
        lambda: tf.T5Config(**T5_SIZES, num_layers=2, num_decoder_layers=3),
        tf.T5ForConditionalGeneration,
        {
            "encoder.block": (2, "encoder.final_layer_norm"),
            "decoder.block": (3, "decoder.final_layer_norm"),
        },
        ("q", "k", "v", "o"),
    ),
    "bart": (
        lambda: tf.BartConfig(**PAIR),
        tf.BartForConditionalGeneration,
        {"model.encoder.layers": (2, None), "model.decoder.layers": (3, None)},
        OPT,
    ),
    "mbart": (
        lambda: tf.MBartConfig(**PAIR),
        tf.MBartForConditionalGeneration,
        {
            "model.encoder.layers": (2, "model.encoder.layer_norm"),
            "model.decoder.layers": (3, "model.decoder.layer_norm"),
        },
        OPT,
    ),
}

# Families whose depth is no list of blocks that run once each, and why.
REFUSED = {
    "albert": (lambda: tf.AlbertConfig(**SMALL), tf.AlbertForMaskedLM, "none is a list of blocks"),
    "xlm": (
        lambda: tf.XLMConfig(emb_dim=32, n_layers=3, n_heads=4, vocab_size=VOCAB),
        tf.XLMWithLMHeadModel, "several could be the blocks",
    ),
    "flaubert": (
        lambda: tf.FlaubertConfig(emb_dim=32, n_layers=3, n_heads=4, vocab_size=VOCAB),
        tf.FlaubertWithLMHeadModel, "several could be the blocks",
    ),
    "funnel": (
        lambda: tf.FunnelConfig(
            block_sizes=[1, 2], d_model=32, n_head=4, d_head=8, d_inner=48, vocab_size=VOCAB
        ),
        tf.FunnelForMaskedLM, "none is a list of blocks",
    ),
    "perceiver": (
        lambda: tf.PerceiverConfig(
            d_latents=32, d_model=32, num_self_attends_per_block=3, num_latents=4,
            num_self_attention_heads=4, num_cross_attention_heads=4, vocab_size=VOCAB,
            max_position_embeddings=32,
        ),
        tf.PerceiverForMaskedLM, "none is a list of blocks",
    ),
    "xlnet": (
        lambda: tf.XLNetConfig(d_model=32, n_layer=3, n_head=4, d_inner=48, vocab_size=VOCAB),
        tf.XLNetLMHeadModel, "tokens first",
    ),
    "hrm_text": (tf.HrmTextConfig, tf.HrmTextForCausalLM, "configured depth"),
    "blt": (tf.BltConfig, tf.BltForCausalLM, "configured depth"),
}  # fmt: skip


def config_and_class(name):
    known = {**ONE_STACK, **TWO_STACKS, **REFUSED}[name]
    return known[0](), known[1]


def build(name, *, kind=None, seed=0, **overrides):
    """The family's model with random weights, in eval mode; `kind` is another class to make."""
    config, made = config_and_class(name)
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
    ids = torch.randint(3, VOCAB, (n, t), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :5]
    if hasattr(model.config, "use_cache"):
        inputs["use_cache"] = False
    return model(**inputs)
