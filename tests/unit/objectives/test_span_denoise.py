import pytest
import torch

from layerwise.data import Example, TextData
from layerwise.errors import DataError, ModelError
from layerwise.objectives import OBJECTIVES
from layerwise.objectives.spans import spans


def make(tokenizer, *texts, seed=0):
    data = TextData("test", "", tuple(map(Example, texts)), {"text": "text"}, len(texts))
    return OBJECTIVES["span-denoise"].make_batches(
        tokenizer, data, batch_size=8, max_length=64, seed=seed, kind="masked"
    )


@pytest.fixture
def tokenizer(tiny_text):
    return tiny_text.tokenizer(frame="bert")


def test_each_token_of_a_span_is_masked_and_is_its_own_label(tokenizer):
    text = " ".join(f"w{i}" for i in range(40))
    (batch,) = make(tokenizer, text).batches
    whole = torch.tensor(tokenizer(text)["input_ids"])
    # The first of the 42 tokens is a special one, which no span counts.
    hidden = [1 + i for span in spans(40, seed=0, index=0) for i in span]
    labels, expected = batch.labels[0], torch.full_like(whole, -100)
    expected[hidden] = whole[hidden]
    assert torch.equal(labels, expected)
    read = whole.clone()
    read[hidden] = tokenizer.mask_token_id
    assert torch.equal(batch.inputs["input_ids"][0], read)


def test_special_tokens_of_a_text_are_stepped_over(tokenizer):
    for seed in range(40):
        (batch,) = make(tokenizer, "w1 <unk> w2 w3 <unk> w4", seed=seed).batches
        hidden = batch.labels[0][batch.labels[0] != -100]
        assert not set(hidden.tolist()) & set(tokenizer.all_special_ids)


def test_a_text_of_special_tokens_alone_is_dropped(tokenizer):
    found = make(tokenizer, "<unk> <unk>", "w1")
    assert (found.dropped, found.batches[0].index.tolist()) == (1, [1])
    with pytest.raises(DataError, match="nothing is left to predict"):
        make(tokenizer, "<unk>")


def test_without_a_mask_token(tiny_text):
    tokenizer = tiny_text.tokenizer(frame="bert", without=("mask_token",))
    with pytest.raises(ModelError, match=r"no mask token, which hides.*another --objective"):
        make(tokenizer, "w1 w2")
