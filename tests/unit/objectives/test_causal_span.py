from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from layerwise.objectives import OBJECTIVES
from layerwise.objectives.spans import spans
from support import examples
from support.examples import words

make = partial(examples.batches, "causal-span", kind="causal")


@pytest.fixture
def tokenizer(tiny_text):
    return tiny_text.tokenizer(frame="causal")


TEXT, SHORT = words(40), words(6, start=1)


@pytest.mark.parametrize(("frame", "first"), [("causal", 1), ("plain", 1)])
def test_the_input_is_hidden_and_the_label_is_one_position_earlier(tiny_text, frame, first):
    tokenizer = tiny_text.tokenizer(frame=frame)
    (batch,) = make(tokenizer, [TEXT]).batches
    whole = tokenizer(TEXT)["input_ids"]
    hidden = [first + i for span in spans(len(whole) - first, seed=0, index=0) for i in span]
    read = [tokenizer.mask_token_id if i in hidden else token for i, token in enumerate(whole)]
    assert batch.inputs["input_ids"][0].tolist() == read
    told = {i: label for i, label in enumerate(batch.labels[0].tolist()) if label != -100}
    assert told == {i - 1: whole[i] for i in hidden}


def test_the_loss_is_of_the_span_s_tokens_under_the_causal_mask(tiny_text, tokenizer):
    model = tiny_text.model("llama")
    (batch,) = make(tokenizer, [TEXT, SHORT]).batches
    expected = []
    for row, text in enumerate((TEXT, SHORT)):
        whole = tokenizer(text)["input_ids"]
        hidden = [1 + i for span in spans(len(whole) - 1, seed=0, index=row) for i in span]
        read = torch.tensor([whole])
        read[0, hidden] = tokenizer.mask_token_id
        each = []
        for i in hidden:
            # What is at i and after it is not even shown.
            logits = model(input_ids=read[:, :i]).logits[0, -1]
            each.append(cross_entropy(logits, torch.tensor(whole[i])))
        expected.append(torch.stack(each).mean())
    torch.testing.assert_close(
        OBJECTIVES["causal-span"].losses(model, batch), torch.stack(expected)
    )


@pytest.mark.parametrize(
    ("without", "shown"),
    [((), "<mask>"), (("mask_token",), "<unk>"), (("mask_token", "unk_token"), "</s>")],
)
def test_what_hides_them_is_said_unless_it_is_the_mask(tiny_text, without, shown):
    tokenizer = tiny_text.tokenizer(frame="causal", without=without)
    found = make(tokenizer, [TEXT])
    read = tokenizer.convert_ids_to_tokens(found.batches[0].inputs["input_ids"][0])
    assert read.count(shown) == 6
    noted = f"the tokenizer has no mask token; {shown} hides the spans"
    assert found.notes == ((noted,) if without else ())
