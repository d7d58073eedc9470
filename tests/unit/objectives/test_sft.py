from functools import partial

from layerwise.data import Example
from support import examples

make = partial(examples.batches, "sft", kind="causal")
PROMPTED = [Example("w3 w4", prompt="w1 w2")]


def counted(tokenizer, batch):
    return (
        tokenizer.decode(batch.inputs["input_ids"][0]),
        tokenizer.decode(batch.labels[0][batch.labels[0] != -100]),
        tokenizer.decode(batch.inputs["input_ids"][0][batch.token_mask[0]]),
    )


def test_with_a_chat_template(tiny_text):
    tokenizer = tiny_text.tokenizer(frame="causal", chat=tiny_text.CHAT)
    found = make(tokenizer, PROMPTED)
    whole = "<user> w1 w2 <end> <assistant> w3 w4 <end>"
    assert counted(tokenizer, found.batches[0]) == (whole, "w3 w4 <end>", "w3 w4 <end>")
    assert (found.notes, found.tokens) == ((), 3)


def test_without_one_the_parts_are_joined_and_that_is_said(tiny_text):
    tokenizer = tiny_text.tokenizer(frame="causal")
    found = make(tokenizer, PROMPTED)
    assert counted(tokenizer, found.batches[0]) == ("<s> w1 w2 w3 w4", "w3 w4", "w3 w4")
    (note,) = found.notes
    assert "no chat template" in note
