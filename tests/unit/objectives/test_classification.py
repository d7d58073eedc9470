import pytest
import torch
from torch.nn.functional import cross_entropy

from layerwise.data import Example
from layerwise.errors import UnknownNameError
from layerwise.models.heads import class_ids
from layerwise.objectives import OBJECTIVES
from support.examples import batches, words

LABELS = ("pos", "neg", "odd", "neg", "pos")


def make(tiny_text, labels=LABELS):
    made = [Example(words(2 + n), label=label) for n, label in enumerate(labels)]
    classes, tokenizer = class_ids(tiny_text.model("bert_classifier")), tiny_text.tokenizer
    return batches(
        "classification", tokenizer(frame="bert"), made, batch_size=3, kind="classifier",
        classes=classes,
    )  # fmt: skip


def classes_of(batch_set):
    found = {}
    for batch in batch_set.batches:
        found |= dict(zip(batch.index.tolist(), batch.classes.tolist(), strict=True))
    return [found[i] for i in sorted(found)]


def test_classes_are_the_model_s_whatever_part_of_the_data_is_seen(tiny_text):
    assert classes_of(make(tiny_text)) == [1, 0, 2, 0, 1]
    assert classes_of(make(tiny_text, labels=("odd", "odd"))) == [2, 2]


def test_a_label_that_the_model_does_not_know(tiny_text):
    with pytest.raises(UnknownNameError, match=r"label: 'po'; expected one of neg, pos, odd; try"):
        make(tiny_text, labels=("neg", "po"))


@pytest.mark.parametrize("name", ["bert_classifier", "llama_classifier"])
def test_losses_are_the_head_s_own(tiny_text, name):
    model = tiny_text.model(name)
    for batch in make(tiny_text).batches:
        each = [
            cross_entropy(model(input_ids=ids[mask.bool()][None]).logits[0], target)
            for ids, mask, target in zip(
                batch.inputs["input_ids"], batch.inputs["attention_mask"], batch.classes,
                strict=True,
            )
        ]  # fmt: skip
        torch.testing.assert_close(
            OBJECTIVES["classification"].losses(model, batch), torch.stack(each)
        )
