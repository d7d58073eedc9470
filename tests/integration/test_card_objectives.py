"""A Layer Card under each objective, from what a user names to what the card says."""

import json

import pytest

from layerwise.api import cards as api
from layerwise.errors import BadInputError
from layerwise.models.load import from_config, load
from layerwise.objectives import OBJECTIVES

SMALL = {"max_length": 16, "rank": 2, "batch_size": 4, "examples": None}
CASES = [
    ("causal-lm", "llama"), ("sft", "llama"), ("causal-span", "llama"), ("masked-lm", "bert"),
    ("span-denoise", "bert"), ("masked-lm", "pretraining"), ("nsp", "pretraining"),
    ("nsp", "next_sentence"), ("simcse", "encoder"), ("simcse", "llama"),
    ("simcse", "pretraining"), ("barlow-twins", "encoder"), ("barlow-twins", "llama"),
    ("classification", "bert"), ("classification", "encoder"), ("classification", "llama"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tiny_text, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_text.save(root / name, name) for name in {model for _, model in CASES}}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "rows.jsonl"
    rows = (
        {
            "text": " ".join(f"w{(3 * i + j) % 50}" for j in range(6 + i % 5)),
            "prompt": f"w{i}",
            "label": ["no", "yes"][i % 2],
        }
        for i in range(10)
    )
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def columns(name):
    objective = OBJECTIVES[name]
    return {
        "text_column": "text",
        "prompt_column": "prompt" if objective.needs_prompt else None,
        "label_column": "label" if objective.needs_label else None,
    }


@pytest.mark.parametrize(("name", "model"), CASES)
def test_a_card_under_each_objective(folders, texts, name, model):
    made = api.card(str(folders[model]), texts, objective=name, **columns(name), **SMALL)
    assert made.data.objective == name
    assert made.data.examples == 10
    assert (made.column("residual_norm") > 0).all()
    assert (made.column("activation_gradient") > 0).all()
    placed, *_ = api.export(api.place(made, layers=1), made)
    assert placed.verified.matched == placed.verified.expected > 0
    assert json.loads(made.files()["card.json"])["data"]["objective"] == name


def test_the_card_says_that_a_head_was_added(folders, texts):
    made = api.card(str(folders["bert"]), texts, **columns("classification"), seed=3, **SMALL)
    assert made.data.objective == "classification"
    assert made.model.architecture == "BertForSequenceClassification"
    added = "a classification head for no, yes was added, random from seed 3: "
    assert [note for note in made.capture.notes if note.startswith(added)]


def test_the_card_says_what_hides_the_spans(folders, texts, caplog):
    loaded = load(str(folders["llama"]))
    loaded.tokenizer.mask_token = None
    made = api.card(loaded, texts, objective="causal-span", **columns("causal-span"), **SMALL)
    noted = "the tokenizer has no mask token; <unk> hides the spans"
    assert noted in made.capture.notes
    assert caplog.text.count(noted) == 1


def test_a_model_that_was_loaded_without_a_head_for_classes(folders, texts):
    with pytest.raises(BadInputError, match=r"model of kind masked: 'classification'.*labels="):
        api.card(load(str(folders["bert"])), texts, **columns("classification"), **SMALL)


def test_labels_of_another_model(folders, texts):
    loaded = load(str(folders["bert"]), labels=("no", "maybe"))
    with pytest.raises(BadInputError, match=r"unknown label: 'yes'; expected one of no, maybe"):
        api.card(loaded, texts, **columns("classification"), **SMALL)


def test_a_model_from_its_configuration_alone(tiny_text, texts, tmp_path):
    config = tiny_text.model("pretraining").config.to_dict()
    file = tmp_path / "small.json"
    file.write_text(json.dumps({**config, "architectures": ["BertForPreTraining"]}))
    tiny_text.tokenizer(frame="bert").save_pretrained(tmp_path)
    loaded = from_config(file, device="cpu")
    made = api.card(loaded, texts, objective="nsp", **columns("nsp"), **SMALL)
    assert f"random weights from {file}, seed 0" in made.capture.notes
    assert api.export(api.place(made, layers=1), made)[0].verified
