import pytest
import torch
from torch.nn.functional import cross_entropy

from layerwise.data import Example, TextData
from layerwise.errors import UnknownNameError
from layerwise.models.heads import class_ids
from layerwise.objectives import OBJECTIVES

CLASSIFICATION = OBJECTIVES["classification"]
LABELS = ("pos", "neg", "odd", "neg", "pos")


def make(tiny_text, labels=LABELS, classes=None):
    examples = tuple(
        Example(" ".join(f"w{i}" for i in range(2 + n)), label=label)
        for n, label in enumerate(labels)
    )
    columns = {"text": "text", "label": "label"}
    return CLASSIFICATION.make_batches(
        tiny_text.tokenizer(frame="bert"),
        TextData("test", "", examples, columns, len(examples)),
        batch_size=3, max_length=16, seed=0, kind="classifier",
        classes=classes or class_ids(tiny_text.model("bert_classifier")),
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
        torch.testing.assert_close(CLASSIFICATION.losses(model, batch), torch.stack(each))
