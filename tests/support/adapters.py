"""Adapters of every kind on tiny bases: trained, at random, and saved as PEFT saves them."""

import warnings

import peft
import torch
import transformers as tf

from support import text, zoo

IDS = torch.arange(4, 16).view(2, 6)
#: What PEFT is asked to adapt where a kind takes linear modules.
ATTENTION = ["q_proj", "v_proj"]
FUSED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def lora(**options):
    return peft.LoraConfig(**{"r": 4, "target_modules": ATTENTION} | options)


def linear(name, **options):
    """The configuration called `name`, on the attention; None where this PEFT has none."""
    made = getattr(peft, name, None)
    return None if made is None else made(target_modules=ATTENTION, **options)


LLAMA, TIED, BIASED = "llama", ("llama", "tied"), ("llama", "biased")
_OPTIONS = {"tied": {"tie_word_embeddings": True}, "biased": {"attention_bias": True}}

# name: (base, the adapter's configuration)
PLAIN = {
    "lora": (LLAMA, lora),
    "rslora": (LLAMA, lambda: lora(use_rslora=True, lora_alpha=7)),
    "dora": (LLAMA, lambda: lora(use_dora=True)),
    "dora-embedding": (LLAMA, lambda: lora(target_modules=["embed_tokens"], use_dora=True)),
    "all-linear": (LLAMA, lambda: lora(target_modules="all-linear")),
    "patterns": (
        LLAMA,
        lambda: lora(rank_pattern={"layers.1.self_attn.q_proj": 2}, alpha_pattern={"v_proj": 3}),
    ),
    "patterns-of-patterns": (
        LLAMA,
        lambda: lora(
            rank_pattern={r"^model\.layers\.0\..*q_proj": 2}, alpha_pattern={r".*v_p.*": 3}
        ),
    ),
    "regex": (LLAMA, lambda: lora(target_modules=r".*layers\.1.*q_proj")),
    "some-layers": (LLAMA, lambda: lora(layers_to_transform=[1])),
    "excluded": (LLAMA, lambda: lora(exclude_modules=["layers.0.self_attn.q_proj"])),
    "biases": (BIASED, lambda: lora(bias="all")),
    "lora-biases": (BIASED, lambda: lora(bias="lora_only")),
    "bias-of-b": (BIASED, lambda: lora(lora_bias=True)),
    "gaussian": (LLAMA, lambda: lora(init_lora_weights="gaussian")),
    "orthogonal": (LLAMA, lambda: lora(init_lora_weights="orthogonal")),
    "anyhow": (LLAMA, lambda: lora(init_lora_weights=False)),
    "pissa": (LLAMA, lambda: lora(init_lora_weights="pissa")),
    "pissa-rslora": (
        LLAMA,
        lambda: lora(
            init_lora_weights="pissa", use_rslora=True, lora_alpha=5, rank_pattern={"q_proj": 2}
        ),
    ),
    "olora": (LLAMA, lambda: lora(init_lora_weights="olora")),
    **{
        f"{start}-{name}head": (
            base,
            lambda start=start: lora(target_modules=["lm_head", "q_proj"], init_lora_weights=start),
        )
        for start in ("pissa", "olora")
        for name, base in (("", LLAMA), ("tied-", TIED))
    },
    "replicated": (LLAMA, lambda: lora(layer_replication=[[0, 2], [1, 2]])),
    "tied-embedding": (TIED, lambda: lora(target_modules=["embed_tokens", "q_proj"])),
    "tied-head": (TIED, lambda: lora(target_modules=["lm_head", "q_proj"])),
    "tokens": (LLAMA, lambda: lora(trainable_token_indices=[4, 5])),
    "tied-tokens": (TIED, lambda: lora(trainable_token_indices=[4, 5])),
    "tied-tokens-and-head": (
        TIED, lambda: lora(target_modules=["lm_head", "q_proj"], trainable_token_indices=[4, 5]),
    ),
    "tokens-by-module": (
        LLAMA, lambda: lora(trainable_token_indices={"embed_tokens": [4], "lm_head": [9]}),
    ),
    "whole-embedding": (TIED, lambda: lora(modules_to_save=["embed_tokens"])),
    "whole-norms": (LLAMA, lambda: lora(modules_to_save=["input_layernorm"])),
    "tokens-alone": (TIED, lambda: peft.TrainableTokensConfig(token_indices=[4, 9])),
    "norms-alone": (LLAMA, lambda: peft.LNTuningConfig(target_modules=["input_layernorm"])),
    "adalora": (LLAMA, lambda: linear("AdaLoraConfig", init_r=4, total_step=10)),
    "vera": (LLAMA, lambda: peft.VeraConfig(r=8, target_modules=["q_proj"])),
    "vera-seeded": (
        LLAMA, lambda: peft.VeraConfig(r=8, target_modules=["q_proj"], save_projection=False),
    ),
    "ia3": (
        BIASED,
        lambda: peft.IA3Config(
            target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
        ),
    ),
    "loha": (LLAMA, lambda: linear("LoHaConfig", r=4)),
    "lokr": (LLAMA, lambda: linear("LoKrConfig", r=4)),
    "oft": (LLAMA, lambda: linear("OFTConfig", oft_block_size=4)),
    "boft": (LLAMA, lambda: linear("BOFTConfig", boft_block_size=4)),
    "hra": (LLAMA, lambda: linear("HRAConfig", r=4)),
    "fourierft": (LLAMA, lambda: linear("FourierFTConfig", n_frequency=20)),
    "randlora": (LLAMA, lambda: linear("RandLoraConfig", r=4)),
    "miss": (LLAMA, lambda: linear("MissConfig", r=4)),
    "miss-bat": (LLAMA, lambda: linear("MissConfig", r=4, init_weights="bat")),
    "shira": (LLAMA, lambda: linear("ShiraConfig", r=2)),
    "c3a": (LLAMA, lambda: linear("C3AConfig", block_size=4)),
    "vblora": (
        LLAMA, lambda: linear("VBLoRAConfig", r=4, num_vectors=30, vector_length=4, topk=2),
    ),
    "road": (LLAMA, lambda: linear("RoadConfig", group_size=4)),
    "waveft": (LLAMA, lambda: linear("WaveFTConfig", n_frequency=20)),
    "delora": (LLAMA, lambda: linear("DeloraConfig", r=4)),
    "gralora": (LLAMA, lambda: linear("GraloraConfig", r=4, gralora_k=2)),
    "hira": (LLAMA, lambda: linear("HiraConfig", r=4)),
    "psoft": (LLAMA, lambda: linear("PsoftConfig", r=4)),
    "fused-experts": (
        "qwen3_moe", lambda: lora(target_modules=None, target_parameters=FUSED, lora_alpha=3),
    ),
    "one-of-fused": (
        "qwen3_moe", lambda: lora(target_parameters=["mlp.experts.down_proj", "mlp.gate.weight"]),
    ),
    "gpt2": ("gpt2", lambda: lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "gpt2-dora": (
        "gpt2", lambda: lora(target_modules=["c_attn"], fan_in_fan_out=True, use_dora=True),
    ),
    "gpt2-pissa": (
        "gpt2",
        lambda: lora(target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights="pissa"),
    ),
    "bert": ("bert", lambda: lora(target_modules=["query", "dense"], use_dora=True)),
}  # fmt: skip


def config_of(make):
    """Return what `make` makes; None where this version of PEFT has no such kind or setting."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's remarks on its own settings.
        try:
            return make()
        except (AttributeError, TypeError):
            return None


def base(folder, named):
    """Save the base that `named` means in `folder`."""
    name, option = (named, None) if isinstance(named, str) else named
    with torch.random.fork_rng():
        model = zoo.build(name, size=text.SIZE, **_OPTIONS.get(option, {}))
    for parameter in model.parameters():  # Far from zero: what an adapter does is seen.
        parameter.data.mul_(3.0) if parameter.ndim > 1 else None
    model.save_pretrained(folder)
    text.tokenizer(frame=text.USUAL_FRAME[zoo.kind(name)]).save_pretrained(folder)
    return folder


def train(model, config):
    """`model` with an adapter of which every number differs from its start."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # PEFT's remarks on its own settings.
        torch.manual_seed(3)
        adapted = peft.get_peft_model(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.2 * torch.randn(parameter.shape)
    return adapted.eval()


def saved(folder, base, config, *, auto=tf.AutoModelForCausalLM, **options):
    """The PEFT model of `base` with such an adapter, which is saved in `folder`."""
    model = train(auto.from_pretrained(base, dtype=torch.float32, **options), config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
    return model


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits
