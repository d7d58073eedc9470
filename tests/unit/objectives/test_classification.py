from dataclasses import replace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from layerwise.data import Batch, Example, TextData
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.models.heads import class_ids
from layerwise.objectives import OBJECTIVES
from layerwise.objectives.classification import label_names
from layerwise.objectives.forward import class_losses, told
from layerwise.objectives.quality import class_quality
from support import text
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


def scored(scores, classes, model):
    made = tuple(Example(words(2 + n), scores=s) for n, s in enumerate(scores))
    data = TextData("test", "", made, {"text": "text", "label": "y"}, len(made), (), classes)
    tokenizer = text.tokenizer(frame="bert")
    return batches(
        "classification", tokenizer, data, batch_size=3, kind="classifier",
        classes=class_ids(model),
    )  # fmt: skip


def test_labels_that_may_hold_together_are_told_output_by_output():
    model = text.model("bert_classifier")  # Its outputs are neg, pos, odd.
    scores = [(1.0, 0.0, 1.0), (0.0, 1.0, 0.0)]
    (batch,) = scored(scores, ("odd", "neg", "pos"), model).batches
    assert batch.classes.tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]  # The longest first.
    logits = model(**batch.inputs).logits
    wanted = binary_cross_entropy_with_logits(logits, batch.classes, reduction="none").mean(1)
    torch.testing.assert_close(OBJECTIVES["classification"].losses(model, batch), wanted)
    assert told(logits, batch.classes).tolist() == (logits > 0).float().tolist()


def test_a_score_is_told_by_one_output():
    batch = Batch({}, None, torch.ones(2, 1).bool(), torch.arange(2), classes=torch.ones(2, 1) / 2)
    logits = torch.tensor([[0.5], [2.0]])
    assert class_losses(logits, batch).tolist() == [0.0, 2.25]
    assert told(logits, batch.classes).tolist() == logits.tolist()
    assert class_quality([[0.5]], [[1.0]]) == {}


def test_labels_for_another_number_of_outputs():
    model = text.model("bert_classifier")
    with pytest.raises(BadInputError, match=r"head of 3 outputs for labels of 1.*expected y"):
        scored([(0.5,)], ("y",), model)
    with pytest.raises(UnknownNameError, match="unknown label: 'big'"):
        scored([(1.0, 0.0, 0.0)], ("big", "neg", "pos"), model)


def test_quality_of_labels_that_may_hold_together():
    actual = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
    found = class_quality([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], actual)
    assert found == pytest.approx({"accuracy": 5 / 6, "macro_f1": (2 / 3 + 1) / 2})


def test_numbers_name_the_classes_of_a_head_and_the_data_s_order_is_kept(tiny_text):
    assert classes_of(make(tiny_text, labels=("1", "0", "2"))) == [1, 0, 2]
    made = tuple(Example("w1", label=label) for label in ("b", "a"))
    known = TextData("t", "", made, {}, 2, (), ("c", "b", "a"))
    assert label_names(known) == ("c", "b", "a")
    assert label_names(replace(known, classes=())) == ("a", "b")
