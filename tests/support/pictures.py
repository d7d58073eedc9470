"""Tiny models that take pictures, with their processors, and pictures to show them."""

import numpy as np
import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for p in m['content'] %}{% if p['type'] == 'image' %}PLACE{% else %}"
    "{{ p['text'] }}{% endif %}{% endfor %}{% endif %}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


def tokenizer(place, *special):
    """A tokenizer of letters, whose template shows a picture as `place`."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    letter = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    letter.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letter.decoder = decoders.ByteLevel()
    marks = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos")}
    made = tf.PreTrainedTokenizerFast(tokenizer_object=letter, **marks)
    made.add_special_tokens({"additional_special_tokens": list(special)})
    made.chat_template = TEMPLATE.replace("PLACE", place)
    return made


def _image_processor(name, **options):
    """transformers' processor that needs no torchvision, which was the plain one before 5."""
    kind = getattr(tf, f"{name}ImageProcessorPil", None) or getattr(tf, f"{name}ImageProcessor")
    return kind(**options)


def llava():
    """A picture is one token of the text, which the processor repeats."""
    words = tokenizer("<image>", "<image>")
    looks = _image_processor(
        "CLIP", size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor = tf.LlavaProcessor(
        looks, words, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=words.chat_template,
    )  # fmt: skip
    config = tf.LlavaConfig(
        text_config={"model_type": "llama", "vocab_size": len(words), **TEXT},
        vision_config={"model_type": "clip_vision_model", "projection_dim": 32, **VISION},
        image_token_id=words.convert_tokens_to_ids("<image>"), vision_feature_layer=-2,
    )  # fmt: skip
    return tf.LlavaForConditionalGeneration, config, processor


def gemma3():
    """Blanks and marks come around a picture, and its tokens see each other."""
    marks = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<soft>"}
    words = tokenizer("<boi>", *marks.values())
    ids = {name: words.convert_tokens_to_ids(mark) for name, mark in marks.items()}
    for name, mark in marks.items():
        setattr(words, name, mark)
        setattr(words, f"{name}_id", ids[name])
        words.init_kwargs[name] = mark
    looks = _image_processor("Gemma3", size={"height": 32, "width": 32})
    processor = tf.Gemma3Processor(
        looks, words, image_seq_length=4, chat_template=words.chat_template
    )
    config = tf.Gemma3Config(
        text_config={"vocab_size": len(words), "head_dim": 8, "sliding_window": 16, **TEXT},
        vision_config={"model_type": "siglip_vision_model", **VISION},
        mm_tokens_per_image=4, boi_token_index=ids["boi_token"], eoi_token_index=ids["eoi_token"],
        image_token_index=ids["image_token"],
    )  # fmt: skip
    return tf.Gemma3ForConditionalGeneration, config, processor


def idefics3():
    """A picture is cut into parts, so that its rows have another axis than others."""
    words = tokenizer("<image>", "<image>", "<fake_token_around_image>", "<global-img>")
    looks = _image_processor(
        "Idefics3", size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    processor = tf.Idefics3Processor(
        looks, words, image_seq_len=4, chat_template=words.chat_template
    )
    config = tf.Idefics3Config(
        text_config={"model_type": "llama", "vocab_size": len(words), **TEXT},
        vision_config=VISION, scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return tf.Idefics3ForConditionalGeneration, config, processor


def paligemma():
    """What comes before the first answer is seen both ways, which its processor does not know."""
    words = tokenizer("<image>", "<image>")
    looks = _image_processor("Siglip", size={"height": 32, "width": 32})
    looks.image_seq_length = 16
    processor = tf.PaliGemmaProcessor(looks, words, chat_template=words.chat_template)
    config = tf.PaliGemmaConfig(
        text_config={"model_type": "gemma", "vocab_size": len(words), "head_dim": 8, **TEXT},
        vision_config={"model_type": "siglip_vision_model", "projection_dim": 32, **VISION},
        projection_dim=32, image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return tf.PaliGemmaForConditionalGeneration, config, processor


EVERY = {"llava": llava, "gemma3": gemma3, "idefics3": idefics3, "paligemma": paligemma}


def save(name, folder):
    """A tiny model of the kind `name`, with its processor, in `folder`."""
    kind, config, processor = EVERY[name]()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
        for weight in (p for p in model.parameters() if not p.any() and p.ndim > 1):
            torch.nn.init.normal_(weight)  # What leads from pictures to text is nothing at first.
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def drawn(seed, *, height=40, width=60):
    """A picture of noise."""
    from PIL import Image

    points = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(points)
