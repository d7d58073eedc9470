import torch

from layerwise.data import Example, TextData
from layerwise.objectives import OBJECTIVES


def test_each_token_but_the_first_is_predicted(tiny_text):
    tokenizer = tiny_text.tokenizer(frame="causal")
    data = TextData("test", "", (Example("w1 w2 w3"), Example("w4")), {"text": "text"}, 2)
    (batch,) = (
        OBJECTIVES["causal-lm"]
        .make_batches(tokenizer, data, batch_size=2, max_length=8, seed=0, kind="causal")
        .batches
    )
    assert [tokenizer.decode(ids) for ids in batch.inputs["input_ids"]] == [
        "<s> w1 w2 w3",
        "<s> w4 <pad> <pad>",
    ]
    assert tokenizer.decode(batch.labels[0, :3]) == "w1 w2 w3"
    assert (batch.labels[:, -1] == -100).all()
    assert torch.equal(batch.token_mask, batch.inputs["attention_mask"].bool())


def test_losses_are_the_models_own(tiny_text):
    model, tokenizer = tiny_text.model("llama"), tiny_text.tokenizer(frame="causal")
    data = TextData("test", "", (Example("w1 w2 w3"),), {"text": "text"}, 1)
    objective = OBJECTIVES["causal-lm"]
    (batch,) = objective.make_batches(
        tokenizer, data, batch_size=1, max_length=8, seed=0, kind="causal"
    ).batches
    expected = model(**batch.inputs, labels=batch.inputs["input_ids"]).loss
    torch.testing.assert_close(objective.losses(model, batch), expected[None])


def test_texts_of_one_token_are_dropped(tiny_text):
    data = TextData("test", "", (Example("w1"), Example("w1 w2")), {"text": "text"}, 2)
    found = OBJECTIVES["causal-lm"].make_batches(
        tiny_text.tokenizer(), data, batch_size=2, max_length=8, seed=0, kind="causal"
    )
    assert (found.dropped, found.batches[0].index.tolist()) == (1, [1])
