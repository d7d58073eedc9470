"""Blocks as users name them."""

import re

import numpy as np
import pytest

from layerwise.errors import PlacementError, UnknownNameError
from layerwise.placement.record import PlacedBlock
from layerwise.placement.rows import (
    adaptable_rows,
    parse_ranks,
    parse_rows,
    resolve_ranks,
    resolve_rows,
    resolve_stack,
)

TWO = {"encoder.block": 3, "decoder.block": 4}
VISION = {"model.vision_tower.layers": 2, "model.language_model.layers": 3}


def exactly(text):
    return f"^{re.escape(text)}$"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", (3,)),
        (" 3, 7 ,11", (3, 7, 11)),
        ("-1", (-1,)),
        ("e:0,2", (PlacedBlock("e", 0), PlacedBlock("e", 2))),
        ("1,e.b:0,2,d:1", (1, PlacedBlock("e.b", 0), PlacedBlock("e.b", 2), PlacedBlock("d", 1))),
    ],
)
def test_parse(text, expected):
    assert parse_rows(text) == expected


@pytest.mark.parametrize("part", ["x", "1.5", "", "1-3", "e:", "e:x", ":3", "١"])
def test_what_is_no_index_is_refused(part):
    spelling = "expected block indices such as 3,7,11 or STACK:3,7,11"
    with pytest.raises(PlacementError, match=exactly(f"block: {part!r}; {spelling}")):
        parse_rows(f"0,{part}")


@pytest.mark.parametrize("text", ["", "  "])
def test_no_text_is_no_block(text):
    with pytest.raises(PlacementError, match=r"^no block in the placement: '.*'; expected block"):
        parse_rows(text)


def test_a_stack_answers_to_any_part_of_its_name_that_is_its_own(small_card):
    card = small_card(stacks=VISION)
    assert resolve_stack(card.layers, "model.vision_tower.layers") == "model.vision_tower.layers"
    assert resolve_stack(card.layers, "language_model") == "model.language_model.layers"
    assert resolve_stack(card.layers, "language_model.layers") == "model.language_model.layers"


def test_a_part_of_two_stacks_is_refused(small_card):
    line = "stack: 'layers'; expected one of model.vision_tower.layers, model.language_model.layers"
    with pytest.raises(PlacementError, match=exactly(line)):
        resolve_stack(small_card(stacks=VISION).layers, "layers")


@pytest.mark.parametrize("name", ["language", "lm", ""])
def test_an_unknown_stack_is_refused(small_card, name):
    with pytest.raises(UnknownNameError, match=f"unknown stack: '{name}'; expected one of model"):
        resolve_stack(small_card(stacks=VISION).layers, name)


def test_rows_count_over_both_stacks(small_card):
    card = small_card(stacks=TWO)
    assert resolve_rows(card, parse_rows("decoder:1,encoder:0,2")) == (0, 2, 4)
    assert resolve_rows(card, [2, 0], stack="decoder.block") == (3, 5)
    assert adaptable_rows(card) == tuple(range(7))
    assert adaptable_rows(card, stack="decoder") == (3, 4, 5, 6)


def test_integers_of_any_kind_are_indices(small_card):
    assert resolve_rows(small_card(), np.array([3, 1])) == (1, 3)


def test_a_stack_that_was_not_measured_makes_nothing_ambiguous(small_card):
    card = small_card(stacks=VISION)
    from dataclasses import replace

    text_only = replace(card, layers=card.layers[2:])
    assert resolve_rows(text_only, [1]) == (1,)
    with pytest.raises(UnknownNameError, match="unknown stack: 'vision_tower'"):
        resolve_rows(text_only, [PlacedBlock("vision_tower", 0)])


@pytest.mark.parametrize(
    ("blocks", "line"),
    [
        ([12], "no such block in model.layers: '12'; expected 0 to 11"),
        ([-1], "no such block in model.layers: '-1'; expected 0 to 11"),
        ([3, 1, 3], "block of model.layers named twice: '3'; expected each block once"),
        (
            [],
            (
                "no block in the placement; expected at least one: "
                "block indices such as 3,7,11 or STACK:3,7,11"
            ),
        ),
        ([1.5], "block: '1.5'; expected block indices such as 3,7,11 or STACK:3,7,11"),
    ],
)
def test_bad_blocks_are_refused_in_one_line(small_card, blocks, line):
    with pytest.raises(PlacementError, match=exactly(line)):
        resolve_rows(small_card(), blocks)


def test_an_index_that_could_be_of_two_stacks_is_refused(small_card):
    line = (
        "block index without its stack: '1'; expected STACK:INDEX, with a stack of "
        "encoder.block, decoder.block; try: encoder.block:1"
    )
    with pytest.raises(PlacementError, match=exactly(line)):
        resolve_rows(small_card(stacks=TWO), [1])


def test_the_same_block_by_two_spellings_is_named_twice(small_card):
    with pytest.raises(PlacementError, match=r"block of encoder.block named twice: '1'"):
        resolve_rows(small_card(stacks=TWO), parse_rows("encoder:1,encoder.block:1"))


def test_blocks_without_modules_cannot_be_placed(small_card):
    modules = [("h.0.q",), (), ("h.2.q",)]
    card = small_card(stacks={"h": 3}, modules=modules)
    assert adaptable_rows(card) == (0, 2)
    line = "block of h without a module to adapt: '1'; expected a card made with other --targets"
    with pytest.raises(PlacementError, match=exactly(line)):
        resolve_rows(card, [1])
    with pytest.raises(PlacementError, match="no block has a module to adapt: 'the card'"):
        adaptable_rows(small_card(modules=()))
    with pytest.raises(PlacementError, match="no block has a module to adapt: 'stack h'"):
        adaptable_rows(small_card(stacks={"h": 3}, modules=()), stack="h")


def test_ranks_of_blocks(small_card):
    card = small_card(stacks=TWO)
    assert resolve_ranks(card, " encoder:1=2, decoder:3 = 16", within=(1, 6)) == {1: 2, 6: 16}
    assert resolve_ranks(card, {0: 4}, within=(3,), stack="decoder") == {3: 4}
    assert resolve_ranks(small_card(), {PlacedBlock("model.layers", 3): 4}, within=(3,)) == {3: 4}


@pytest.mark.parametrize("part", ["", "3", "3=", "3=x", "3=-1", "3=4=5", "=4"])
def test_what_is_no_rank_is_refused(part):
    line = "(rank of a block|no block in the placement)"
    with pytest.raises(PlacementError, match=line):
        parse_ranks(part)


def test_a_rank_given_twice_is_refused(small_card):
    with pytest.raises(PlacementError, match="block with two ranks: '3=5'; expected each block"):
        parse_ranks("3=4,3=5")
    with pytest.raises(PlacementError, match=r"block of encoder.block named twice: '1'"):
        resolve_ranks(small_card(stacks=TWO), "encoder:1=2,encoder.block:1=3", within=(1,))


@pytest.mark.parametrize(
    ("ranks", "line"),
    [
        ("4=2", "rank of a block that gets no adapter: 'model.layers.4'; expected one of model"),
        ("3=0", "LoRA rank of model.layers.3: '0'; expected a whole number of at least 1"),
        ("12=2", "no such block in model.layers: '12'; expected 0 to 11"),
    ],
)
def test_ranks_that_cannot_be_had_are_refused(small_card, ranks, line):
    with pytest.raises(PlacementError, match=f"^{line}"):
        resolve_ranks(small_card(), ranks, within=(3,))
