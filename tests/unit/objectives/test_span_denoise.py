from functools import partial

import pytest
import torch

from layerwise.objectives.spans import spans
from support import examples
from support.examples import words

make = partial(examples.batches, "span-denoise")


@pytest.fixture
def tokenizer(tiny_text):
    return tiny_text.tokenizer(frame="bert")


def test_each_token_of_a_span_is_masked_and_is_its_own_label(tokenizer):
    text = words(40)
    (batch,) = make(tokenizer, [text]).batches
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
        (batch,) = make(tokenizer, ["w1 <unk> w2 w3 <unk> w4"], seed=seed).batches
        hidden = batch.labels[0][batch.labels[0] != -100]
        assert not set(hidden.tolist()) & set(tokenizer.all_special_ids)
