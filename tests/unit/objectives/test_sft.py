import pytest

from layerwise.data import Example, TextData
from layerwise.errors import ModelError
from layerwise.objectives import OBJECTIVES


def make(tokenizer, data):
    return OBJECTIVES["sft"].make_batches(
        tokenizer, data, batch_size=4, max_length=32, seed=0, kind="causal"
    )


def prompted():
    columns = {"text": "text", "prompt": "prompt"}
    return TextData("test", "", (Example("w3 w4", prompt="w1 w2"),), columns, 1)


def counted(tokenizer, batch):
    return (
        tokenizer.decode(batch.inputs["input_ids"][0]),
        tokenizer.decode(batch.labels[0][batch.labels[0] != -100]),
        tokenizer.decode(batch.inputs["input_ids"][0][batch.token_mask[0]]),
    )


def test_with_a_chat_template(tiny_text):
    tokenizer = tiny_text.tokenizer(frame="causal", chat=tiny_text.CHAT)
    found = make(tokenizer, prompted())
    whole = "<user> w1 w2 <end> <assistant> w3 w4 <end>"
    assert counted(tokenizer, found.batches[0]) == (whole, "w3 w4 <end>", "w3 w4 <end>")
    assert (found.notes, found.tokens) == ((), 3)


def test_without_one_the_parts_are_joined_and_that_is_said(tiny_text):
    tokenizer = tiny_text.tokenizer(frame="causal")
    found = make(tokenizer, prompted())
    assert counted(tokenizer, found.batches[0]) == ("<s> w1 w2 w3 w4", "w3 w4", "w3 w4")
    (note,) = found.notes
    assert "no chat template" in note


def test_chats_need_a_template(tiny_text):
    turns = (("user", "w1"), ("assistant", "w2"))
    chats = TextData("test", "", (Example("w2", messages=turns),), {"messages": "messages"}, 1)
    with pytest.raises(ModelError, match=r"no chat template, which chats need.*--prompt-column"):
        make(tiny_text.tokenizer(frame="causal"), chats)
