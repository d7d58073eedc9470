"""Texts in which nothing is left to predict, and tokenizers that cannot do what is asked."""

import pytest

from layerwise.data import Example
from layerwise.errors import DataError, ModelError
from support.examples import batches

HIDERS = ("mask_token", "unk_token", "eos_token")


@pytest.mark.parametrize(
    ("name", "frame", "texts", "kept"),
    [
        ("causal-lm", "plain", ["w1", "w1 w2"], [1]),
        ("masked-lm", "bert", ["<mask> <unk>", "w1 w2"], [1]),
        ("span-denoise", "bert", ["<unk> <unk>", "w1"], [1]),
        ("causal-span", "causal", ["<unk>", "w1", "w1 w2"], [1, 2]),
        ("causal-span", "plain", ["w1", "w1 w2"], [1]),
    ],
)
def test_they_are_dropped_and_counted(tiny_text, name, frame, texts, kept):
    tokenizer = tiny_text.tokenizer(frame=frame)
    found = batches(name, tokenizer, texts, kind="causal")
    assert (found.dropped, sorted(found.batches[0].index.tolist())) == (1, kept)
    with pytest.raises(DataError, match="nothing is left to predict"):
        batches(name, tokenizer, texts[:1], kind="causal")


def test_an_encoder_decoder_needs_a_second_half_or_an_answer(tiny_text):
    tokenizer = tiny_text.tokenizer(frame="t5")
    found = batches("causal-lm", tokenizer, ["w1", "w1 w2"], kind="seq2seq", decoder_start=0)
    assert (found.dropped, found.batches[0].index.tolist()) == (1, [1])
    with pytest.raises(DataError, match="nothing is left to predict"):
        batches("sft", tokenizer, [Example("", prompt="w1")], kind="seq2seq", decoder_start=0)


TURNS = ({"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"})
CHAT = Example("w2", messages=TURNS)
ANSWER = Example("w2 w3", prompt="w1")


@pytest.mark.parametrize(
    ("name", "kind", "without", "example", "message"),
    [
        (
            "masked-lm",
            "masked",
            HIDERS[:1],
            "w1 w2",
            r"no token to hide.*a mask token.*--objective",
        ),
        ("span-denoise", "masked", HIDERS[:1], "w1 w2", "no token to hide.*a mask token"),
        (
            "causal-span",
            "causal",
            HIDERS,
            "w1 w2",
            r"no token to hide.*a mask or unk or eos.*causal",
        ),
        ("sft", "causal", (), CHAT, r"no chat template, which chats need.*--prompt-column"),
        ("sft", "seq2seq", (), ANSWER, r"no first decoder token.*decoder_start_token_id"),
        ("causal-lm", "seq2seq", (), "w1 w2 w3", r"no first decoder token"),
    ],
)
def test_what_a_tokenizer_or_model_lacks_is_named(tiny_text, name, kind, without, example, message):
    tokenizer = tiny_text.tokenizer(frame=tiny_text.USUAL_FRAME[kind], without=without)
    with pytest.raises(ModelError, match=message):
        batches(name, tokenizer, [example], kind=kind)
