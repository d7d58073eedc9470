from functools import partial

import pytest
import torch

from support import examples
from support.examples import words

make = partial(examples.batches, "masked-lm")


def numbered(count, length=20):
    return examples.of(*(words(length, start=i) for i in range(count)))


@pytest.fixture
def tokenizer(tiny_text):
    return tiny_text.tokenizer(frame="bert")


def test_labels_are_what_stood_there(tokenizer):
    data = numbered(10)
    for batch in make(tokenizer, data).batches:
        for row, index in enumerate(batch.index.tolist()):
            whole = torch.tensor(tokenizer(data.examples[index].text)["input_ids"])
            hidden = batch.labels[row, : len(whole)] != -100
            read = batch.inputs["input_ids"][row, : len(whole)]
            assert torch.equal(batch.labels[row, : len(whole)][hidden], whole[hidden])
            assert torch.equal(read[~hidden], whole[~hidden])


def test_fifteen_percent_of_the_ordinary_tokens(tokenizer):
    for batch in make(tokenizer, numbered(10)).batches:
        assert (batch.labels != -100).sum(1).tolist() == [3] * len(batch)


def test_at_least_one_token_an_example(tokenizer):
    (batch,) = make(tokenizer, ["w1", "w1 w2"]).batches
    assert (batch.labels != -100).sum(1).tolist() == [1, 1]


def test_special_tokens_are_never_hidden_and_never_stand_in(tokenizer):
    special = set(tokenizer.all_special_ids) - {tokenizer.mask_token_id}
    for batch in make(tokenizer, numbered(40)).batches:
        hidden = batch.labels != -100
        assert not special & set(batch.labels[hidden].tolist())
        assert not special & set(batch.inputs["input_ids"][hidden].tolist())


def test_eighty_ten_ten(tokenizer):
    read, labels = [], []
    for batch in make(tokenizer, numbered(400, length=40)).batches:
        hidden = batch.labels != -100
        read.append(batch.inputs["input_ids"][hidden])
        labels.append(batch.labels[hidden])
    read, labels = torch.cat(read), torch.cat(labels)
    masked = (read == tokenizer.mask_token_id).double().mean().item()
    kept = (read == labels).double().mean().item()
    # 2400 draws: five standard deviations are 0.041 and 0.031.
    assert masked == pytest.approx(0.8, abs=0.041)
    assert kept == pytest.approx(0.1, abs=0.031)
