"""Tiny models with random weights, and batches for them; loaded by fixtures, not imported."""

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BertConfig,
    CodeGenConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    ModernBertConfig,
    OPTConfig,
    Qwen3MoeConfig,
    RwkvConfig,
    T5Config,
)

from layerwise.data.batches import Batch
from layerwise.models.load import LoadedModel
from layerwise.models.stack import find_stacks

VOCAB = 97
WIDTH = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": VOCAB}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL = {**WIDTH, "intermediate_size": 48, "max_position_embeddings": 64, **IDS}

CONFIGS = {
    "llama": lambda: LlamaConfig(**SMALL, num_key_value_heads=2),
    "gpt2": lambda: GPT2Config(
        n_embd=32, n_layer=3, n_head=4, vocab_size=VOCAB, n_positions=64, **IDS
    ),
    "opt": lambda: OPTConfig(
        **WIDTH, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64, **IDS
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**SMALL),
    "codegen": lambda: CodeGenConfig(
        n_embd=32,
        n_layer=3,
        n_head=4,
        vocab_size=VOCAB,
        n_positions=64,
        n_ctx=64,
        rotary_dim=4,
        **IDS,
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **SMALL, num_key_value_heads=2, head_dim=8, sliding_window=6
    ),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **SMALL,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
    ),
    "mamba": lambda: MambaConfig(
        hidden_size=32, num_hidden_layers=3, vocab_size=VOCAB, state_size=4, **IDS
    ),
    "mamba2": lambda: Mamba2Config(
        hidden_size=32,
        num_hidden_layers=3,
        vocab_size=VOCAB,
        state_size=4,
        num_heads=8,
        head_dim=8,
        n_groups=2,
        **IDS,
    ),
    "rwkv": lambda: RwkvConfig(
        hidden_size=32,
        num_hidden_layers=3,
        vocab_size=VOCAB,
        context_length=64,
        use_cache=False,
        **IDS,
    ),
    "bert": lambda: BertConfig(**SMALL),
    "modernbert": lambda: ModernBertConfig(**SMALL, cls_token_id=1, sep_token_id=2),
    "t5": lambda: T5Config(
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=3,
        num_heads=4,
        vocab_size=VOCAB,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    ),
    "bart": lambda: BartConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        vocab_size=VOCAB,
        max_position_embeddings=64,
        **IDS,
        decoder_start_token_id=2,
    ),
}

MASKED, SEQ2SEQ = {"bert", "modernbert"}, {"t5", "bart"}


def kind_of(name):
    return "masked" if name in MASKED else "seq2seq" if name in SEQ2SEQ else "causal"


def build(name, *, seed=0, attention="sdpa"):
    """A `LoadedModel` of the architecture `name` with random weights."""
    auto = {
        "masked": AutoModelForMaskedLM, "seq2seq": AutoModelForSeq2SeqLM,
        "causal": AutoModelForCausalLM,
    }[kind_of(name)]  # fmt: skip
    torch.manual_seed(seed)
    config = CONFIGS[name]()
    supported = name not in {"codegen", "mamba", "mamba2", "rwkv"}
    model = auto.from_config(config, attn_implementation=attention if supported else "eager")
    for parameter in model.parameters():  # initial weights are too small to tell signals apart
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return LoadedModel(
        model=model.eval(),
        tokenizer=None,
        source=name,
        kind=kind_of(name),
        stacks=find_stacks(model),
    )


def lengths(n, *, longest=12):
    return [longest - (3 * i) % 8 for i in range(n)]


def batch(name, *, n=4, first=0, seed=1, longest=12):
    """Right-padded random text for `name`, with a prompt of two tokens in causal rows' statistics.

    Row i depends on `first` + i alone, so that any split into batches has the same examples.
    """
    sizes = [lengths(first + n, longest=longest)[first + i] for i in range(n)]
    width = max(sizes)
    ids = torch.zeros(n, width, dtype=torch.long)
    mask = torch.zeros(n, width, dtype=torch.bool)
    for i, size in enumerate(sizes):
        generator = torch.Generator().manual_seed(seed * 1000 + first + i)
        ids[i, :size] = torch.randint(5, VOCAB, (size,), generator=generator)
        mask[i, :size] = True
    index = torch.arange(first, first + n)
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    if name in SEQ2SEQ:
        start = torch.zeros(n, 1, dtype=torch.long)
        return Batch(
            inputs={
                **inputs,
                "decoder_input_ids": torch.cat([start, ids[:, :-1]], 1),
                "decoder_attention_mask": mask.long(),
            },
            labels=ids.masked_fill(~mask, -100),
            token_mask=mask,
            index=index,
            decoder_mask=mask,
        )
    if name in MASKED:
        labels = torch.full_like(ids, -100)
        labels[:, 1:4] = ids[:, 1:4]
        return Batch(inputs=inputs, labels=labels, token_mask=mask, index=index)
    labels = torch.cat([ids[:, 1:], torch.zeros(n, 1, dtype=torch.long)], 1)
    inside = torch.cat([mask[:, 1:], torch.zeros(n, 1, dtype=torch.bool)], 1)
    counted = mask.clone()
    counted[:, :2] = False
    inside[:, 0] = False
    return Batch(
        inputs={"input_ids": ids} if name == "rwkv" else inputs,
        labels=labels.masked_fill(~inside, -100),
        token_mask=counted,
        index=index,
    )


def row(batch, i):
    """Row `i` of `batch` alone, without padding."""
    masks = batch.inputs.get("attention_mask", None)
    size = int(masks[i].sum()) if masks is not None else batch.token_mask.shape[1]
    cut = lambda x: None if x is None else x[i : i + 1, :size]  # noqa: E731
    return Batch(
        inputs={k: cut(v) for k, v in batch.inputs.items()},
        labels=cut(batch.labels),
        token_mask=cut(batch.token_mask),
        index=batch.index[i : i + 1],
        decoder_mask=cut(batch.decoder_mask),
    )
