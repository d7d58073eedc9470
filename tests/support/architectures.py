"""Every text model type that transformers knows, made tiny from its own default configuration.

Sizes are told by the names of a configuration's fields; what these rules cannot know stands in
`SET`, by type. What a model then goes through is in `support.whole_path`.
"""

import re
import warnings

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

KINDS = {
    "causal": (tf.AutoModelForCausalLM, auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    "masked": (tf.AutoModelForMaskedLM, auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    "seq2seq": (tf.AutoModelForSeq2SeqLM, auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    "image-text": (
        tf.AutoModelForImageTextToText, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    ),
}  # fmt: skip

SPECIAL = ("pad", "bos", "eos", "unk", "cls", "sep", "mask")
WORDS = 300
BLOCKS = 4

# The first row one of whose patterns a field's name is says its size.
SIZES = (
    (WORDS, (r"vocab_size(_per_layer_input)?", r"(audio|text|semantic)_vocab\w*")),
    (2, (r"(num_)?(kv|key_value)_heads", r"multi_query_group_num", r"n_head_kv")),
    (4, (r"(\w+_)?(num_|n_)?(attention_|attn_)?heads?(_?num)?", r"linear_num_(key|value)_heads")),
    (8, (r"(\w+_)?head_dim", r"d_kv", r"d_head", r"kv_channels", r"rotary_dim")),
    (BLOCKS, (
        r"(num_)?(hidden_layers|layers|blocks)", r"n_(\w+_)?layers?", r"(\w+_)?depth",
        r"(en|de)coder_layers", r"(\w+_)?num_layers", r"num_(\w+_)?(hidden_)?layers",
    )),
    (48, (r"(\w+_)?(intermediate|ffn|inner|mlp)\w*_?(size|dim)", r"d_ff|dff", r"n_inner|d_inner")),
    (32, (
        r"\w*(hidden_size|hidden_dim|embed_dim|embd|_dim)", r"d_model|dim|width|d_latents",
        r"embed_size|embedding_size|input_size|lru_width", r"\w*embed_proj\w*",
    )),
    (2, (r"(n_|num_)?\w*experts_per_tok\w*", r"(moe_)?top_?k", r"moe_k", r"\w*expert_top_?k",
         r"num_selected_experts")),
    (1, (r"(n_|num_)shared_experts", r"topk_group", r"n_group", r"num_expert_groups?")),
    (4, (r"(n_|num_)\w*experts", r"expert_num")),
    (8, (r"\w*_rank",)),
    (256, (
        r"max_\w*(position_embeddings|seq\w*|positions|length|len)", r"n_ctx",
        r"(n_|num_)positions", r"context_length", r"block_size", r"seq_len\w*",
        r"relative_attention_max_distance",
    )),
    (32, (r"image_size|crop_size",)),
    (8, (r"patch_size",)),
    (16, (r"(ssm_)?state_size", r"mamba_d_state", r"num_mel_bins|n_mels", r"\w*codebook_size")),
)  # fmt: skip

# Parts of a rotary embedding for time, height and width, where the default is none for this size.
SECTIONS = {name: [2, 1, 1] for name in ("glm4v_text", "glm_ocr_text", "glmga_text")}
SECTIONS["glm4v_moe_text"] = [1, 1, 0]
# What the rules do not know, by type (nested parts by their own), and what they are to leave.
SSM = {"mamba_n_heads": 8, "mamba_d_head": 8}
ROPE = {"rope_type": "default", "rope_theta": 1e4}
SET = {
    "granitemoehybrid": {**SSM, "layer_types": ["mamba", "attention"] * 2},
    "falcon_h1": {**SSM, "mamba_d_ssm": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "mobilebert": {
        "embedding_size": 8,
        "intra_bottleneck_size": 16,
        "num_feedforward_networks": 1,
        "true_hidden_size": 16,
    },
    "qwen2_vl_text": {"rope_parameters": {**ROPE, "mrope_section": [2, 1, 1]}},
    "qwen2_5_vl_text": {"rope_parameters": {**ROPE, "mrope_section": [2, 1, 1]}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "bamba": {**SSM, "attn_layer_indices": [1, 3]},
    "nemotron_h": {"n_groups": 2},
    "esm": {"vocab_size": WORDS, "pad_token_id": 0, "mask_token_id": 6},
    "esmc": {"num_key_value_heads": 4},
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.0] * 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "xmod": {"default_language": "en_XX"},
    "led": {"attention_window": [8] * BLOCKS},
    "longformer": {"attention_window": [8] * BLOCKS},
    "xlnet": {"d_head": 8},
    "zamba2": {
        "mamba_headdim": 16,
        "attention_hidden_size": 64,
        "hybrid_layer_ids": [1, 3],
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
    },
    "dots3_note_text": {"num_key_value_heads": 4},
    "dots3_note_audio_encoder": {"adapter_input_size": 32},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"] * 2, "attention_hidden_size": 64},
    "paddleocr_vl_text": {"rope_parameters": {**ROPE, "mrope_section": [2, 1, 1]}},
    "ernie4_5_vl_moe_text": {"rope_parameters": {**ROPE, "mrope_section": [1, 1, 2]}},
    "mistral4": {"head_dim": 16},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", *["sparse"] * 3]},
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 48},
    "qwen4_exp_text": {
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
    },
    "granite4_vision": {"deepstack_layer_map": [[0, 1], [2, 2]]},
    "hunyuan_vl_text": {"head_dim": 8, "rope_parameters": {**ROPE, "mrope_section": [2, 1, 1]}},
    "chameleon": {"vocabulary_map": {"<image>": 290, "IMGIMGBZ": 291}},
    "emu3": {
        "vocabulary_map": {"<image>": 290, "<|extra_200|>": 291, "<|visual token 000000|>": 292}
    },
    "cohere_compass_text": {
        "rope_parameters": dict.fromkeys(("full_attention", "sliding_attention"), ROPE)
    },
    "qwen2_5_omni_thinker": {"vision_start_token_id": 290},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 290},
    "qwen2_5_omni_text": {"rope_parameters": {**ROPE, "mrope_section": [2, 1, 1]}},
    "qwen3_omni_moe_text": {"rope_parameters": {**ROPE, "mrope_section": [2, 1, 1]}},
    "step3p5": {"sliding_window": 8},
    "dbrx": {"attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8}},
    "molmo2_adapter": {"vision_feature_layer": [3, 1]},
    "neomme": {"head_dim": 16},
}
# Why no tiny configuration of a type can be had, where the error does not say it.
DECODER = "its causal class is for the decoder's configuration, which no Auto class takes by itself"
DRAFT = "drafts for another model, whose caches it reads: it is none by itself"
BEYOND = {
    "musicgen": DECODER,
    "musicgen_melody": DECODER,
    "gemma4_assistant": DRAFT,
    "gemma4_unified_assistant": DRAFT,
    "evolla": "reads proteins; transformers lists it here, but has no Auto class that makes it",
}


def types():
    """Return each (type, kind) of model that transformers has."""
    return [(name, kind) for kind in KINDS for name in sorted(KINDS[kind][1])]


def tokenizer():
    """A tokenizer of bytes, with every special token that a loss or a model may ask for."""
    special = {f"{role}_token": f"<{role}>" for role in SPECIAL}
    words = [*special.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single="<cls> $A <eos>", pair="<cls> $A <sep> $B:1 <eos>:1",
        special_tokens=[("<cls>", 4), ("<eos>", 2), ("<sep>", 5)],
    )  # fmt: skip
    return tf.PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def _size(name, value):
    if type(value) is not int or value <= 1:
        return value
    rule = next((small for small, known in SIZES if re.fullmatch("|".join(known), name)), None)
    if rule == WORDS:
        return rule
    return value if rule is None else min(value, rule)


def _tokens(name, value, taken):
    role = name.removesuffix("_token_id")
    if name == "decoder_start_token_id":
        return SPECIAL.index("bos")
    if role in SPECIAL:
        return SPECIAL.index(role)
    taken.append(name)
    return WORDS - 20 - len(taken) % 20 if type(value) is int and value >= 0 else value


def _listed(value, depth):
    """Shorten a list with an entry for each block, so that each kind of entry stays."""
    kinds = [v for i, v in enumerate(value) if v not in value[:i]]
    if len(kinds) > 2:
        return (kinds + value)[:BLOCKS]
    first = value[:BLOCKS]
    return first if all(k in first for k in kinds) else [*first[: BLOCKS - 1], kinds[-1]]


def shrunk(config, taken=None):
    """Return the arguments that make a tiny configuration of the class of `config`."""
    taken = [] if taken is None else taken
    said = SET.get(config.model_type, {})
    depths = {v for k, v in vars(config).items() if type(v) is int and v > BLOCKS
              and _size(k, v) == BLOCKS}  # fmt: skip
    made, heads = {}, {vars(config).get(key) for key in ("num_attention_heads", "n_head")}
    plain = {k: v for k, v in vars(config).items() if not k.startswith("_")}
    for name, value in plain.items():
        if isinstance(value, tf.PretrainedConfig):
            made[name] = type(value)(**shrunk(value, taken))
        elif name.endswith(("token_id", "token_index", "token_ids")):
            made[name] = _tokens(name, value, taken)
        elif isinstance(value, list | tuple) and len(value) in depths:
            made[name] = _listed(list(value), depths)
        elif name in {"rope_parameters", "rope_scaling"}:
            made[name] = _rope(value)
            if made[name] and config.model_type in SECTIONS:
                made[name]["mrope_section"] = SECTIONS[config.model_type]
        elif name in {"num_key_value_heads", "multi_query_group_num", "num_kv_heads"}:
            made[name] = 4 if value in heads else _size(name, value)
        elif name != "qk_head_dim":  # The sum of two others.
            made[name] = _size(name, value)
    known = {
        "transformers_version",
        "architectures",
        "model_type",
        "dtype",
        "attribute_map",
        "ignore_keys_at_rope_validation",
    }
    return {k: v for k, v in {**made, **said}.items() if k not in known and v is not None}


def _rope(value):
    if not isinstance(value, dict):
        return value
    made = {k: _rope(v) for k, v in value.items()}
    if "mrope_section" in made:
        made["mrope_section"] = [2, 1, 1]
    return made


def tiny_config(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = CONFIG_MAPPING[name]
        said = SET.get(name, {})
        try:
            default = made()
        except Exception:  # noqa: BLE001 - a default configuration need not be one
            default = made(**said)
        config = made(**shrunk(default))
    # Only checkpoints name the token that a decoder starts from.
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = SPECIAL.index("bos")
    return config


def tiny_model(name, kind, seed=0):
    """Return the tiny model with random weights."""
    torch.manual_seed(seed)
    config = tiny_config(name)
    if kind == "masked":
        config.is_decoder = False
    return KINDS[kind][0].from_config(config, dtype=torch.float32).eval()


def told(name, *, n, t):
    """The causal model called `name`, loaded, and `n` random texts of `t` tokens for it."""
    from layerwise.data.batches import Batch
    from layerwise.models.load import wrap_model

    ids = torch.randint(7, 200, (n, t), generator=torch.Generator().manual_seed(2))
    batch = Batch(
        inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        labels=torch.cat([ids[:, 1:], torch.full((n, 1), -100)], 1),
        token_mask=torch.ones_like(ids).bool(),
        index=torch.arange(n),
    )
    return wrap_model(tiny_model(name, "causal"), tokenizer()), batch
