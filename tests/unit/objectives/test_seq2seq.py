from functools import partial

import pytest
import torch
import transformers

from layerwise.data import Example
from layerwise.objectives import OBJECTIVES, decoder_start
from support import examples
from support.examples import words

START = 0
make = partial(examples.batches, kind="seq2seq", max_length=8, decoder_start=START)


def of(*pairs):
    return examples.of(*(Example(text, prompt=prompt) for prompt, text in pairs))


@pytest.fixture
def tokenizer(tiny_text):
    return tiny_text.tokenizer(frame="t5")


def shown(tokenizer, batch, key, row=0):
    return tokenizer.decode(batch.inputs[key][row])


def test_answers_are_said_and_prompts_are_read(tokenizer):
    (batch,) = make("sft", tokenizer, of(("w1 w2", "w3 w4"))).batches
    assert shown(tokenizer, batch, "input_ids") == "w1 w2 </s>"
    assert shown(tokenizer, batch, "decoder_input_ids") == "<pad> w3 w4"
    assert tokenizer.decode(batch.labels[0]) == "w3 w4 </s>"


def test_second_halves_are_said_and_first_halves_are_read(tokenizer):
    (batch,) = make("causal-lm", tokenizer, ["w1 w2 w3 w4 w5"]).batches
    assert shown(tokenizer, batch, "input_ids") == "w1 w2 w3 </s>"
    assert shown(tokenizer, batch, "decoder_input_ids") == "<pad> w4 w5"
    assert tokenizer.decode(batch.labels[0]) == "w4 w5 </s>"


def test_padding_counts_nowhere(tokenizer):
    found = make("sft", tokenizer, of(("w1", "w3 w4 w5"), ("w1 w2 w3", "w4")))
    (batch,) = found.batches
    assert torch.equal(batch.token_mask, batch.inputs["attention_mask"].bool())
    assert torch.equal(batch.decoder_mask, batch.inputs["decoder_attention_mask"].bool())
    assert torch.equal(batch.decoder_mask, batch.labels != -100)
    assert found.tokens == int(batch.token_mask.sum() + batch.decoder_mask.sum())


def test_either_side_may_be_cut(tokenizer):
    long = words(20)
    found = make("sft", tokenizer, of((long, "w1"), ("w1", long), ("w1", "w2")))
    assert (found.truncated, found.dropped) == (2, 0)
    (batch,) = found.batches
    assert batch.inputs["input_ids"].shape == batch.labels.shape == (3, 8)


def test_losses_are_the_models_own(tiny_text, tokenizer):
    model = tiny_text.model("t5")
    assert decoder_start(model) == START
    (batch,) = make("sft", tokenizer, of(("w1", "w3 w4 w5"))).batches
    expected = model(input_ids=batch.inputs["input_ids"], labels=batch.labels).loss
    torch.testing.assert_close(OBJECTIVES["sft"].losses(model, batch), expected[None])


def test_decoder_start_is_read_off_the_model(tiny_text):
    assert decoder_start(tiny_text.model("llama")) is None
    config = transformers.BartConfig(
        vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    assert decoder_start(transformers.BartForConditionalGeneration(config)) == 2
