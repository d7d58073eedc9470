"""What joins the stages: each given as named by the user, or as a record made before."""

import sys
from dataclasses import replace

import pytest
import torch

from layerwise.api import cards as api
from layerwise.card.record import LayerCard
from layerwise.data import read
from layerwise.errors import LayerwiseError, ModelError, SchemaError, UnknownNameError
from layerwise.models.load import load
from layerwise.placement.record import PlacedBlock

SMALL = {"max_length": 16, "rank": 2, "batch_size": 2}


@pytest.fixture(scope="module")
def model_folder(tiny_text, tmp_path_factory):
    return tiny_text.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "lines.txt"
    lines = (" ".join(f"w{(3 * i + j) % 50}" for j in range(6 + i % 5)) for i in range(6))
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(scope="module")
def card(model_folder, text_file):
    return api.card(str(model_folder), str(text_file), examples=None, **SMALL)


def test_a_card_is_kept_where_a_text_or_a_path_says(card, tmp_path):
    written = card.save(str(tmp_path / "kept"))
    assert card.save(tmp_path / "kept") == written
    again = LayerCard.load(str(tmp_path / "kept"))
    assert again.files() == card.files() == LayerCard.load(tmp_path / "kept").files()


def test_what_was_done_otherwise_than_asked_is_in_the_card(model_folder, text_file):
    loaded = replace(load(str(model_folder)), notes=("planted in the model",))
    made = api.card(loaded, str(text_file), examples=64, **SMALL)
    assert made.capture.notes[:2] == (
        "planted in the model",
        "64 examples were asked for, 6 are there",
    )


def test_records_made_before_stand_for_their_names(card, model_folder, text_file):
    again = api.card(load(str(model_folder)), read(str(text_file)), **SMALL)
    assert again.model == card.model
    assert again.data == card.data
    assert again.column("residual_norm").tolist() == card.column("residual_norm").tolist()


def test_names_are_checked_before_anything_is_read():
    with pytest.raises(UnknownNameError, match=r"did you mean 'residual_norm'\?"):
        api.card("org/none", "none.csv", signals=["residual_nrom"])


def test_out_of_memory_says_what_to_make_smaller(monkeypatch, model_folder, text_file):
    def full(*_args, **_options):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(sys.modules["layerwise.card.make"], "make_card", full)
    with pytest.raises(LayerwiseError, match="out of memory; try: a smaller --batch-size"):
        api.card(str(model_folder), str(text_file), examples=None)


def test_a_goal_is_a_card_s_first_word(card):
    assert card.place("quality", layers=1) == api.place(card, goal="quality", layers=1)


def test_blocks_are_named_by_index_or_by_stack(card):
    by_text = api.place(card, blocks="1")
    assert by_text == api.place(card, blocks=[1])
    assert by_text == api.place(card, blocks=[PlacedBlock("model.layers", 1)])


def test_verify_finds_the_card_s_own_model(card):
    placed, coverage, _ = api.export(api.place(card, policy="all"), card)
    assert placed.verified == coverage.verified
    assert coverage.verified.matched == len(placed.modules)


def test_verify_refuses_another_model(card, tiny_text, tmp_path):
    tiny_text.model("gpt2").save_pretrained(tmp_path)
    with pytest.raises(SchemaError, match=r"card of another model.*GPT2Block.*LlamaDecoderLayer"):
        api.export(api.place(card, policy="all"), card, model=str(tmp_path))


def test_verify_of_a_model_named_wrongly_says_just_that(card):
    with pytest.raises(ModelError, match="'/none/here'") as caught:
        api.export(api.place(card, policy="all"), card, model="/none/here")
    assert "--model" not in str(caught.value)


def test_compare_takes_cards_one_by_one(card):
    found = api.compare(card, card)
    assert found.pairs[0].spearman == pytest.approx(1.0)
    assert found.pairs[0].usable
