"""Data in hand through the functions that people call."""

import json

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

import layerwise as lw
from layerwise.errors import DataError
from support import text
from support.examples import words

TEXTS = [words(3 + i % 5, start=i) for i in range(12)]
QUICK = {"steps": 2, "batch_size": 4, "eval_examples": 4}


def batches():
    """Batches of tokens with labels, as other trainers make them."""
    ids = torch.arange(11, 35).reshape(4, 6)
    return DataLoader([{"input_ids": ids, "labels": ids, "attention_mask": ids * 0 + 1}], None)


@pytest.mark.parametrize(
    "data", [TEXTS, (t for t in TEXTS), pd.DataFrame({"text": TEXTS}), batches()], ids=type
)
def test_a_card_of_data_in_hand(tuning, data):
    card = lw.card(tuning.loaded(), data, signals=["activation_gradient"], examples=4)
    assert (card.data.examples, card.data.objective) == (4, "causal-lm")
    assert card.data.source == type(data).__name__
    assert any("no example is longer than" in note for note in card.capture.notes)


def test_chats_in_hand_are_tuned_on(tuning):
    loaded = tuning.loaded()
    loaded.tokenizer.chat_template = text.CHAT
    said = [[{"role": role, "content": t} for role in ("user", "assistant")] for t in TEXTS]
    rows = [{"messages": json.dumps(turns)} for turns in said]
    record = lw.tune(loaded, rows, steps=2, batch_size=2, packing=True).record
    assert record.data.objective == "sft"
    assert record.notes[0] == "read 12 rows as chats"
    assert record.data.tokens == sum(len(t.split()) + 1 for t in TEXTS)


@pytest.mark.parametrize(
    ("labels", "problem", "quality"),
    [
        ([[1, 0, 1], [0, 1, 0]], "multi_label_classification", {"accuracy", "macro_f1"}),
        (["neg", "pos"], None, {"accuracy", "macro_f1"}),
    ],
)
def test_labels_of_every_kind_are_tuned_on(tuning, labels, problem, quality):
    rows = [{"text": t, "y": labels[i % 2]} for i, t in enumerate(TEXTS)]
    loaded = tuning.loaded("bert_classifier", id2label={0: "0", 1: "1", 2: "2"})
    if problem is None:
        loaded = tuning.loaded("bert_classifier")
    tuned = lw.tune(loaded, rows, label_column="y", **QUICK)
    assert set(tuned.record.outcome.quality) == quality
    assert tuned.loaded.model.config.problem_type == problem


def test_a_head_is_for_the_classes_of_all_rows(tmp_path):
    text.save(tmp_path / "bert", "bert")
    names = [f"c{i:02}" for i in range(len(TEXTS))]
    rows = [{"text": t, "y": name} for t, name in zip(TEXTS, names, strict=True)]
    tuned = lw.tune(
        str(tmp_path / "bert"), rows, label_column="y", device="cpu", examples=8, **QUICK
    )
    assert [*tuned.loaded.model.config.id2label.values()] == names
    assert any(note.startswith("no example that was drawn is of c") for note in tuned.record.notes)


def test_scores_get_a_head_with_one_output(tmp_path):
    text.save(tmp_path / "bert", "bert")
    rows = [{"text": t, "y": i / 7} for i, t in enumerate(TEXTS)]
    where = {"device": "cpu", "label_column": "y"}
    tuned = lw.tune(str(tmp_path / "bert"), rows, out=tmp_path / "out", **where, **QUICK)
    assert tuned.record.outcome.eval_loss is not None
    assert tuned.record.outcome.quality == {}
    again = lw.tune(str(tmp_path / "out"), rows, **where, **QUICK)
    assert again.loaded.model.config.id2label == {0: "y"}
    assert again.loaded.model.config.problem_type == "regression"
    assert again.record.outcome.first_eval_loss == pytest.approx(tuned.record.outcome.eval_loss)


def test_what_no_data_is(tuning):
    with pytest.raises(DataError, match="no data: 'int'"):
        lw.card(tuning.loaded(), 7)
