from dataclasses import replace

import pytest

from layerwise.errors import PlacementError
from layerwise.placement.record import PlacedBlock
from layerwise.report.old.text import (
    adapted_rows,
    block_text,
    headline,
    model_name,
    ranges,
    shown,
    stack_labels,
    visible,
)


@pytest.mark.parametrize(
    ("indices", "expected"),
    [([], ""), ([3], "3"), ([1, 0], "0, 1"), ([4, 2, 3, 9], "2–4, 9"), ([1, 1, 2, 3], "1–3")],
)
def test_ranges_as_people_write_them(indices, expected):
    assert ranges(indices) == expected


def test_what_cannot_be_drawn_is_replaced_and_line_feeds_stay():
    assert visible("a\x00b\u202ec\ud800\nd") == "a�b�c�\nd"


def test_letters_of_any_script_stay():
    assert visible("שלום 模型 é") == "שלום 模型 é"


def test_long_text_keeps_both_ends():
    text = shown("begin" + "x" * 5000 + "end", limit=40)
    assert len(text) == 40
    assert text.startswith("begin")
    assert text.endswith("end")


def test_short_text_stays_on_one_line():
    assert shown("a\n b\t c") == "a b c"


def test_labels_of_stacks_differ_though_their_cut_names_do_not(planted_card):
    names = ["a" * 100 + middle + "b" * 100 for middle in "xyz"]
    labels = stack_labels(planted_card(dict.fromkeys(names, 2)).model)
    assert len(set(labels.values())) == 3


def test_blocks_in_words(planted_card):
    assert block_text(planted_card(), [4, 6, 7, 8]) == "blocks 4, 6–8"
    assert block_text(planted_card(), [4]) == "block 4"
    assert block_text(planted_card(), []) == "no block"
    two = planted_card({"encoder": 3, "decoder": 3})
    assert block_text(two, [2, 3]) == "block 2 of encoder and block 0 of decoder"


def test_headline_follows_the_verdict(planted_card):
    card = planted_card({"model.layers": 6})
    assert headline(card) == "Adapt " + block_text(card, card.advice.layers) + "."
    assert headline(planted_card(verdict="flat")).startswith("No block stands out")
    assert "no advice" in headline(replace(card, advice=None))


def test_a_placement_marks_rows_and_without_one_the_advice_does(planted_card, planted_placement):
    card = planted_card({"encoder": 3, "decoder": 3})
    assert adapted_rows(card, planted_placement(card, [5, 1])) == (1, 5)
    assert adapted_rows(card, None) == card.advice.layers
    assert adapted_rows(replace(card, advice=None), None) == ()


def test_a_placement_of_another_model_is_refused(planted_card, planted_placement):
    card = planted_card({"model.layers": 4})
    foreign = replace(planted_placement(card, [0]), blocks=(PlacedBlock("model.layers", 4),))
    with pytest.raises(PlacementError, match=r"model\.layers\[4\]"):
        adapted_rows(card, foreign)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("org/model", "org/model"),
        ("/home/me/models/small.gguf", "small.gguf"),
        ("/home/me/models/folder/", "folder"),
        ("/home/me/small-bert/model", "small-bert/model"),
        ("/", "/"),
        ("<b>hub</b>", "<b>hub</b>"),
        ("demo", "SmolLM2-135M-Instruct.Q4_K_M.gguf"),
        ("demo-encoder", "demo-encoder"),
    ],
)
def test_a_model_is_called_by_its_hub_id_or_the_end_of_its_path(planted_card, source, name):
    card = planted_card()
    renamed = replace(card, model=replace(card.model, source=source))
    assert model_name(renamed.model) == name
