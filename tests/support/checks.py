"""Models and configs to check, and what PEFT adapts of a real model, told from its weights' names.

No line of the package is used to tell: what trains is what `requires_grad` says.
"""

import re
import warnings
from functools import cache

import torch
import transformers as tf
from peft import get_peft_config, get_peft_model

from support import zoo

SIZE = zoo.Size(words=97, width=32, blocks=12, heads=4, inner=48)
_TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 97,
}  # fmt: skip
_EYES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
_MORE = {
    "llava": (
        lambda: tf.LlavaConfig(
            text_config=tf.LlamaConfig(**_TEXT), vision_config=tf.CLIPVisionConfig(**_EYES)
        ),
        tf.LlavaForConditionalGeneration,
    ),
    "qwen2_vl": (
        lambda: tf.Qwen2VLConfig(
            text_config=_TEXT,
            vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4},
        ),
        tf.Qwen2VLForConditionalGeneration,
    ),
    "mixtral": (lambda: tf.MixtralConfig(**_TEXT, num_local_experts=4), tf.MixtralForCausalLM),
    "gpt_oss": (
        lambda: tf.GptOssConfig(
            **_TEXT, num_local_experts=4, head_dim=8, layer_types=["full_attention"] * 3
        ),
        tf.GptOssForCausalLM,
    ),
    "reward": (lambda: tf.LlamaConfig(**_TEXT, num_labels=1), tf.LlamaForSequenceClassification),
    "bare": (lambda: tf.LlamaConfig(**_TEXT), tf.LlamaModel),
    "tokens": (lambda: zoo.config_and_class("bert")[0], tf.BertForTokenClassification),
}


@cache
def described(name):
    """The configuration and the class of a small model."""
    if name in _MORE:
        config, made = _MORE[name]
        return config(), made
    return zoo.config_and_class(name, SIZE if name in {"llama", "qwen2"} else zoo.MIDDLE)


def folder(name, path):
    """A folder with the model's config.json alone."""
    config, made = described(name)
    config.architectures = [made.__name__]
    config.save_pretrained(path / name)
    return path / name


def model(name):
    config, made = described(name)
    torch.manual_seed(0)
    return made(config)


_PLACE = re.compile(r"^(.*?\.(?:layers|h|block|layer|blocks))\.(\d+)\.(.*)$")


def by_peft(name, **lora):
    """The (stack, block, module) that PEFT adapts of a real model, and how many numbers train."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT says much that is of no matter here.
        config = get_peft_config({"peft_type": "LORA", **lora})
        adapted = get_peft_model(model(name), config).get_base_model()
    return by_weights(adapted)


def by_weights(trained):
    names = {n for n, p in trained.named_parameters() if p.requires_grad}
    names = {re.sub(r"experts\.\d+", "experts.*", name) for name in names}  # Before they fused.
    inner = (
        re.split(r"\.(?:lora|ia3|boft)_|\.modules_to_save|\.weight$|\.bias$", n)[0] for n in names
    )
    modules = {name.replace(".base_layer", "") for name in inner}
    places = {m.groups() for m in map(_PLACE.match, modules) if m}
    size = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    return {(stack, int(index), kind) for stack, index, kind in places}, size


def by_freezing(name, trains):
    """The same, of a model whose weights train where `trains` says so of their names."""
    made = model(name)
    for weight, parameter in made.named_parameters():
        parameter.requires_grad_(trains(weight))
    return by_weights(made)


def told(check):
    """The same, as a check tells it."""
    kinds = {k: re.sub(r"\.(experts|gate|router)\.\w+$", r".\1", k.kind) for k in check.kinds}
    return {(k.stack, i, name) for k, name in kinds.items() for i in k.blocks}, check.parameters
