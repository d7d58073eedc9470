"""Tiny models that take sounds, with their processors, and sounds for them to hear."""

import io

import numpy as np
import torch
import transformers as tf
from scipy.io import wavfile

from support.pictures import TEXT, tokenizer

RATE = 16_000
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for p in m['content'] %}{% if p['type'] == 'audio' %}<|AUDIO|>{% else %}"
    "{{ p['text'] }}{% endif %}{% endfor %}{% endif %}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def qwen2_audio():
    """A sound is a token, which the processor repeats by how long it is."""
    words = tokenizer("<|AUDIO|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
    words.chat_template = TEMPLATE
    hears = tf.WhisperFeatureExtractor(feature_size=8, sampling_rate=RATE, chunk_length=1)
    processor = tf.Qwen2AudioProcessor(hears, words, chat_template=TEMPLATE)
    audio = {
        "num_mel_bins": 8, "encoder_layers": 2, "encoder_attention_heads": 4, "d_model": 32,
        "encoder_ffn_dim": 48, "max_source_positions": 50,
    }  # fmt: skip
    config = tf.Qwen2AudioConfig(
        text_config={"model_type": "qwen2", "vocab_size": len(words), **TEXT},
        audio_config={"model_type": "qwen2_audio_encoder", **audio},
        audio_token_index=words.convert_tokens_to_ids("<|AUDIO|>"),
    )
    return tf.Qwen2AudioForConditionalGeneration, config, processor


EVERY = {"qwen2_audio": qwen2_audio}


def save(name, folder):
    """A tiny model of the kind `name`, with its processor, in `folder`."""
    kind, config, processor = EVERY[name]()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def tone(seed, *, seconds=0.5, rate=RATE):
    """The samples of a sound: some waves and noise, float32."""
    draw, at = np.random.default_rng(seed), np.arange(int(seconds * rate)) / rate
    waves = sum(np.sin(2 * np.pi * draw.uniform(100, 900) * at) for _ in range(3)) / 8
    return (waves + draw.normal(0, 0.02, len(at))).astype(np.float32)


def wav(samples, rate=RATE):
    """The bytes of a WAV file."""
    into = io.BytesIO()
    wavfile.write(into, rate, samples)
    return into.getvalue()
