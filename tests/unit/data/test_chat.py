import pytest

from layerwise.data import Example
from layerwise.data.chat import chat_rows
from layerwise.errors import DataError
from support.examples import of

TWO_EXCHANGES = (
    ("system", "w9"),
    ("user", "w1 w2"),
    ("assistant", "w3 w4"),
    ("user", "w5"),
    ("assistant", "w6 w7 w8"),
)


def chat(*turns):
    made = tuple({"role": role, "content": content} for role, content in turns)
    return Example("\n".join(c for role, c in turns if role == "assistant"), messages=made)


def shown(tokenizer, *examples, max_length=32):
    """Of each row, the whole, and what counts."""
    found = chat_rows(tokenizer, of(*examples), max_length=max_length).rows
    counted = [[t for t, c in zip(r.ids, r.counted, strict=True) if c] for r in found]
    return [
        (tokenizer.decode(row.ids), tokenizer.decode(kept))
        for row, kept in zip(found, counted, strict=True)
    ]


@pytest.fixture(params=["CHAT", "MARKED_CHAT"])
def tokenizer(tiny_text, request):
    """One whose template marks its answers, and one whose does not."""
    return tiny_text.tokenizer(frame="causal", chat=getattr(tiny_text, request.param))


def test_a_cut_chat_keeps_what_fits(tokenizer):
    ((_, counted),) = shown(tokenizer, chat(*TWO_EXCHANGES), max_length=10)
    assert counted == "w3 w4"
    assert chat_rows(tokenizer, of(chat(*TWO_EXCHANGES)), max_length=10).truncated == 1


def test_a_chat_whose_answers_are_all_beyond_the_limit_is_dropped(tokenizer):
    data = of(chat(*TWO_EXCHANGES), Example("w3", prompt="w1"))
    assert [row.index for row in chat_rows(tokenizer, data, max_length=7).rows] == [1]
    with pytest.raises(DataError, match=r"nothing is left to predict.*--max-length N"):
        chat_rows(tokenizer, of(chat(*TWO_EXCHANGES)), max_length=6)


def test_marks_tell_where_answers_are_dropped(tiny_text):
    answer = "{% generation %}{{ m.content }}{% endgeneration %}"
    marked = tiny_text.FORGETFUL_CHAT.replace(
        "{{ m.content }}",
        "{% if m.role == 'assistant' %}" + answer + "{% else %}{{ m.content }}{% endif %}",
    )
    tokenizer, example = tiny_text.tokenizer(chat=marked), chat(*TWO_EXCHANGES)
    found = shown(tokenizer, example)
    assert found == [("<user> w5 <end> <assistant> w6 w7 w8 <end>", "w6 w7 w8")]
    notes = chat_rows(tokenizer, of(example), max_length=32).notes
    assert notes == ("answers outside the marks of the chat template: 1",)


@pytest.mark.real_model
def test_the_real_template(smollm2_tokenizer):
    turns = (
        ("user", "Who are you?"),
        ("assistant", "A model."),
        ("user", "Oh."),
        ("assistant", "Yes."),
    )
    exchange = Example("Paris.", prompt="Capital of France?")
    (one, paris), (two, answers) = shown(smollm2_tokenizer, exchange, chat(*turns), max_length=128)
    assert one.startswith("<|im_start|>system\nYou are a helpful AI assistant")
    assert one.endswith("Capital of France?<|im_end|>\n<|im_start|>assistant\nParis.<|im_end|>\n")
    assert paris == "Paris.<|im_end|>\n"
    assert two.count("<|im_start|>") == 5
    assert answers == "A model.<|im_end|>\nYes.<|im_end|>\n"
