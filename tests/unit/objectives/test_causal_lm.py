from functools import partial

import torch

from support import examples

make = partial(examples.batches, "causal-lm", kind="causal", max_length=8)


def test_each_token_but_the_first_is_predicted(tiny_text):
    tokenizer = tiny_text.tokenizer(frame="causal")
    (batch,) = make(tokenizer, ["w1 w2 w3", "w4"]).batches
    assert [tokenizer.decode(ids) for ids in batch.inputs["input_ids"]] == [
        "<s> w1 w2 w3",
        "<s> w4 <pad> <pad>",
    ]
    assert tokenizer.decode(batch.labels[0, :3]) == "w1 w2 w3"
    assert (batch.labels[:, -1] == -100).all()
    assert torch.equal(batch.token_mask, batch.inputs["attention_mask"].bool())
