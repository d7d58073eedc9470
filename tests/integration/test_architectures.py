"""Model types of transformers, tiny, from card to profile; see `support.whole_path`."""

import re
from pathlib import Path

import pytest

from support import architectures

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
# Families that people use, and one of each kind that is built otherwise.
THIRTY = [
    ("llama", "causal"), ("qwen2", "causal"), ("qwen3_moe", "causal"), ("qwen3_5", "causal"),
    ("gemma2", "causal"), ("gemma3n_text", "causal"), ("mixtral", "causal"), ("phi3", "causal"),
    ("gpt_oss", "causal"), ("deepseek_v3", "causal"), ("deepseek_v32", "causal"),
    ("deepseek_v4", "causal"), ("olmo2", "causal"), ("granitemoehybrid", "causal"),
    ("falcon", "causal"), ("jamba", "causal"), ("ctrl", "causal"), ("doge", "causal"),
    ("xlnet", "causal"), ("afmoe", "causal"), ("bart", "causal"), ("llama4_text", "causal"),
    ("modernbert", "masked"), ("deberta-v2", "masked"), ("albert", "masked"),
    ("emu3", "causal"), ("inkling2_text", "causal"),
    ("roberta-prelayernorm", "masked"), ("t5", "seq2seq"), ("fsmt", "seq2seq"),
    ("florence2", "image-text"), ("paligemma", "image-text"),
]  # fmt: skip
OTHERS = [each for each in architectures.types() if each not in THIRTY]


@pytest.fixture(scope="module")
def whole_path():
    from support import whole_path

    return whole_path


@pytest.mark.parametrize(("name", "kind"), THIRTY, ids="-".join)
def test_goes_the_whole_way(whole_path, name, kind):
    what, why = whole_path.outcome(name, kind)
    assert what == "whole", why


@pytest.mark.sweep
@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), OTHERS, ids="-".join)
def test_goes_as_documented(whole_path, name, kind):
    found = re.search(rf"^\| {re.escape(name)} \| {kind} \| (\w+) \|", PAGE.read_text(), re.M)
    assert found, f"{name} came later than the page: remake it"
    what, why = whole_path.apart(name, kind)
    assert what == found[1], why


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("prophetnet", "causal", "other rows than one for each token"),
        ("hrm_text", "causal", "its two lists of blocks run in turn, many times"),
        ("xlm", "masked", "several could be the blocks"),
        ("squeezebert", "masked", "no linear module in any block"),
        ("longformer", "masked", "other rows than one for each token"),  # only of some batches
        ("unlimited_ocr", "image-text", "PEFT saves, but would not find again"),
        ("diffusion_gemma", "image-text", "logits are no row a token"),
    ],
)
def test_is_refused_with_the_reason(whole_path, name, kind, why):
    what, said = whole_path.outcome(name, kind)
    assert (what, why in said) == ("refused", True), said


def test_attention_that_sdpa_would_open_to_later_words_runs_in_eager(whole_path, tmp_path):
    """Without padding, PaliGemma's text sees all of itself under SDPA, though not in eager."""
    from layerwise.models.load import load, wrap_model

    model, words = architectures.tiny_model("paligemma", "image-text"), architectures.tokenizer()
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    for loaded in (load(str(tmp_path), device="cpu"), wrap_model(model, words)):
        assert loaded.model.config._attn_implementation == "eager"
        assert any("sees the words it is to predict" in note for note in loaded.notes)
