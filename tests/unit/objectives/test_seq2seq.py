import pytest
import torch
import transformers

from layerwise.data import Example, TextData
from layerwise.errors import DataError, ModelError
from layerwise.objectives import OBJECTIVES, decoder_start

START = 0


def of(*pairs):
    examples = tuple(Example(text, prompt=prompt) for prompt, text in pairs)
    return TextData("test", "", examples, {"text": "text", "prompt": "prompt"}, len(examples))


def make(name, tokenizer, data, **options):
    options = {"batch_size": 4, "max_length": 8, "seed": 0, "decoder_start": START} | options
    return OBJECTIVES[name].make_batches(tokenizer, data, kind="seq2seq", **options)


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
    (batch,) = make("causal-lm", tokenizer, of((None, "w1 w2 w3 w4 w5"))).batches
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
    long = " ".join(f"w{i}" for i in range(20))
    found = make("sft", tokenizer, of((long, "w1"), ("w1", long), ("w1", "w2")))
    assert (found.truncated, found.dropped) == (2, 0)
    (batch,) = found.batches
    assert batch.inputs["input_ids"].shape == batch.labels.shape == (3, 8)


def test_texts_of_one_token_have_no_second_half(tokenizer):
    found = make("causal-lm", tokenizer, of((None, "w1"), (None, "w1 w2")))
    assert (found.dropped, found.batches[0].index.tolist()) == (1, [1])


def test_nothing_to_say(tokenizer):
    with pytest.raises(DataError, match="nothing is left to predict"):
        make("sft", tokenizer, of(("w1", "")))


@pytest.mark.parametrize("name", ["sft", "causal-lm"])
def test_a_decoder_with_no_first_token(tokenizer, name):
    with pytest.raises(ModelError, match=r"no first decoder token.*decoder_start_token_id"):
        make(name, tokenizer, of(("w1", "w2 w3")), decoder_start=None)


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
