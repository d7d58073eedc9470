"""The cost of a placement, worked out by hand."""

from dataclasses import replace

import pytest

from layerwise.errors import PlacementError
from layerwise.placement.cost import is_of, missing_timings, placement_cost, step_cost
from layerwise.placement.place import place


def seconds(card, rows, *, rank=None):
    return step_cost(card, rank=rank).seconds(rows)


def with_outside(card, forward, backward):
    capture = replace(
        card.capture, outside_forward_seconds=forward, outside_backward_seconds=backward
    )
    return replace(card, capture=capture)


def test_a_step_is_the_forward_and_the_backward_down_to_the_lowest_block(small_card):
    card = with_outside(small_card(4, forward_seconds=[1, 2, 3, 4]), 0.5, 0.25)
    assert seconds(card, (0, 1, 2, 3)) == pytest.approx(10.5 + 4.25)
    assert seconds(card, (2,)) == pytest.approx(10.5 + 2.25)
    assert seconds(card, (2, 3)) == seconds(card, (2,))


def test_ratios_are_relative_to_all_blocks(small_card):
    card = with_outside(small_card(4, activation_bytes=[10.0, 20.0, 30.0, 40.0]), 0.5, 0.25)
    cost = placement_cost(card, (2, 3))
    assert cost.step_ratio == pytest.approx(6.75 / 8.75)
    assert cost.backward_ratio == pytest.approx(2.25 / 4.25)
    assert cost.activation_ratio == pytest.approx(0.7)


def test_all_blocks_cost_all(small_card):
    cost = placement_cost(small_card(5, parameters=80), range(5), rank=64)
    assert (cost.step_ratio, cost.backward_ratio, cost.activation_ratio) == (1.0, 1.0, 1.0)


def test_half_the_stack_costs_half_the_backward(small_card):
    cost = placement_cost(small_card(12), range(6, 12))
    assert cost.backward_ratio == pytest.approx(0.5)
    assert placement_cost(small_card(12), range(0, 12, 2)).backward_ratio == pytest.approx(1.0)


def test_adapters_work_once_forward_and_twice_backward(small_card):
    # 80 adapter parameters in a block of 800 take a tenth of its second.
    card = small_card(4, parameters=800)
    assert seconds(card, (3,)) == pytest.approx(4.0 + 1.0 + 0.1 + 0.2)
    assert step_cost(card).backward_seconds((3,)) == pytest.approx(1.2)


def test_adapter_work_grows_with_rank(small_card):
    card = small_card(4, parameters=800)
    assert seconds(card, (3,), rank=16) == pytest.approx(5.0 + 0.6)
    assert seconds(card, (3,), rank=1) == pytest.approx(5.0 + 0.3 / 8.0)


def test_timed_adapters_stand_in_for_the_estimate(small_card):
    card = small_card(4, adapter_seconds=0.6)
    assert seconds(card, (3,)) == pytest.approx(4.0 + 1.0 + 0.6)
    assert step_cost(card).backward_seconds((3,)) == pytest.approx(1.4)
    assert seconds(card, (2, 3), rank=16) == seconds(card, (2, 3))


def test_another_rank_adds_its_products_to_what_was_timed(small_card):
    card = small_card(4, adapter_seconds=0.6, parameters=800)
    assert seconds(card, (3,), rank=16) == pytest.approx(5.0 + 0.6 + 0.3)
    assert seconds(card, (3,), rank=4) == pytest.approx(5.0 + 0.6 - 0.15)
    assert seconds(small_card(4, adapter_seconds=0.1, parameters=800), (3,), rank=1) == 5.0


def test_an_encoders_block_costs_the_decoders_backward_too(small_card):
    card = small_card(stacks={"encoder.block": 2, "decoder.block": 3})
    assert step_cost(card).backward_seconds((1,)) == pytest.approx(4.0)
    assert step_cost(card).backward_seconds((2,)) == pytest.approx(3.0)


def test_nothing_kept_anywhere_costs_the_same(small_card):
    assert placement_cost(small_card(2, activation_bytes=0.0), (1,)).activation_ratio == 1.0


@pytest.mark.parametrize("column", ["forward_seconds", "backward_seconds", "activation_bytes"])
def test_without_timings_there_is_a_reason_and_no_cost(small_card, column):
    card = small_card(3, **{column: None})
    assert missing_timings(card) == f"the card does not have {column} of every block"
    assert placement_cost(card, (0,)) is None
    with pytest.raises(PlacementError, match=f"no cost without timings: .*{column}"):
        seconds(card, (0,))
    assert missing_timings(small_card(3)) is None


def test_a_whole_block_takes_the_gradients_of_its_weights_and_no_adapter(small_card):
    card = with_outside(
        small_card(4, forward_seconds=[1, 2, 3, 4], backward_seconds=[5, 6, 7, 8], parameters=80),
        0.5,
        0.25,
    )
    cost = step_cost(card, whole=True)
    assert cost.backward_seconds((2,)) == pytest.approx(0.25 + 7 + 8 + 3)
    assert cost.seconds((1, 3)) == pytest.approx(10.5 + 0.25 + 6 + 7 + 8 + 2 + 4)
    every = placement_cost(card, range(4), whole=True)
    assert (every.step_ratio, every.backward_ratio) == (1.0, 1.0)


@pytest.mark.parametrize(
    "how", [{"rank": 4}, {"ranks": "1=2"}, {"rows": "1,3"}, {"whole": True}, {"policy": "last"}]
)
def test_a_card_knows_its_own_placements(small_card, how):
    card = small_card(6, parameters=800)
    how = {"layers": 2, "policy": "first"} | how if "rows" not in how else how
    placed = place(card, **how)
    assert is_of(placed, card)
    assert not is_of(placed, small_card(6, parameters=800, backward_seconds=[1, 2, 3, 4, 5, 6]))
    assert not is_of(placed, small_card(1))
