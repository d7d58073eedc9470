"""Which family a model is counted in."""

import pytest

from layerwise.models.head_kind import family_of
from layerwise.models.stack import find_stacks

FAMILIES = {
    "llama": "decoder",
    "gpt_neox": "decoder",
    "codegen": "decoder",
    "qwen3_moe": "decoder",
    "mamba": "ssm",
    "mamba2": "ssm",
    "rwkv": "rnn",
    "bert": "encoder",
    "modernbert": "encoder",
    "t5": "encoder-decoder",
    "bart": "encoder-decoder",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_family_follows_from_how_text_is_read(tiny, name):
    loaded = tiny.build(name)
    assert family_of(loaded.model, loaded.stacks) == FAMILIES[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("encoder", "encoder"), ("bert_classifier", "encoder"), ("llama_classifier", "decoder")],
)
def test_the_head_does_not_matter(tiny_text, name, expected):
    model = tiny_text.model(name)
    assert family_of(model, find_stacks(model)) == expected
