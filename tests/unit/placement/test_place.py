"""Placements: what they hold, and the lines that bad wishes get."""

import re
from dataclasses import replace

import pytest

from layerwise.errors import PlacementError, UnknownNameError
from layerwise.placement import GOALS, POLICIES
from layerwise.placement.cost import placement_cost
from layerwise.placement.place import choose, place


def indices(placement):
    return tuple(block.index for block in placement.blocks)


def exactly(text):
    return f"^{re.escape(text)}$"


def test_a_placement_holds_what_a_trainer_needs(small_card):
    placement = place(small_card(), rows="3,7")
    assert placement.policy == "manual"
    assert indices(placement) == (3, 7)
    assert placement.modules == tuple(
        f"model.layers.{i}.attn.{t}" for i in (3, 7) for t in ("q", "v")
    )
    assert (placement.rank, placement.alpha, placement.adapter_parameters) == (8, 16, 160)
    assert (placement.model, placement.revision) == ("org/model", "abc")
    assert placement.cost.backward_ratio == pytest.approx(9 / 12)
    assert placement.verified is None
    assert placement.notes == ()


def test_a_placement_on_the_demo_names_files_that_a_trainer_finds(small_card, minilm):
    card = small_card()
    card = replace(card, model=replace(card.model, source="demo-encoder", revision=None))
    assert place(card, rows="3,7").model == str(minilm.resolve())


def test_rank_scales_parameters_and_alpha(small_card):
    placement = place(small_card(), rows="0", rank=2)
    assert (placement.rank, placement.alpha, placement.adapter_parameters) == (2, 4, 20)
    assert place(small_card(), rows="0", rank=2, alpha=32).alpha == 32


def test_manual_rows_in_any_order_are_the_same_placement(small_card):
    assert place(small_card(), rows="7,3").to_json() == place(small_card(), rows=[3, 7]).to_json()


def test_the_advised_placement_goes_by_gain_from_the_lowest_affordable_block(small_card):
    card = small_card()
    placement = place(card, layers=3)
    assert placement.policy == "gain"
    assert indices(placement) == POLICIES["gain"](card, 3, rows=range(12))
    assert placement == place(card, layers=3, goal="quality")
    # Forward 12 s, backward 12 s: 0.75 of 24 s leaves 6 s of backward, blocks 6 to 11.
    bounded = place(card, layers=3, goal="balanced")
    assert indices(bounded) == POLICIES["gain"](card, 3, rows=range(6, 12))


@pytest.mark.parametrize(
    ("absent", "why"),
    [({"gain": "not asked for"}, "not asked for"), (None, "arrays.safetensors is not there")],
)
def test_without_gains_the_advice_is_what_they_come_to_when_alike(small_card, absent, why):
    card = small_card(gram=None, absent=absent)
    placement = place(card, layers=3)
    assert (placement.policy, indices(placement)) == ("midpoints", (2, 6, 10))
    assert placement.notes[0].startswith("policy midpoints in place of gain: ")
    assert placement.notes[0].endswith(why)


def test_a_named_policy_is_bounded_only_on_request(small_card):
    norms = [float(12 - i) for i in range(12)]
    card = small_card(residual_norm=norms)
    assert indices(place(card, policy="top", layers=2)) == (0, 1)
    assert indices(place(card, policy="top", layers=2, goal="balanced")) == (6, 7)


def test_where_nothing_is_cheap_enough_the_cheapest_is_taken_and_said(small_card, caplog):
    placement = place(small_card(), layers=3, goal="cost")
    assert indices(placement) == (9, 10, 11)
    note = "no choice of 3 blocks takes 0.50 of a step with all blocks or less; the cheapest takes"
    assert placement.notes == (f"{note} 0.62",)
    assert note in caplog.text
    assert not choose(small_card(), layers=3, goal="cost").affordable
    assert choose(small_card(), layers=3).affordable
    assert choose(small_card(), policy="top").affordable


def test_without_timings_the_goal_is_not_applied_and_that_is_said(small_card):
    placement = place(small_card(forward_seconds=None), layers=3, goal="balanced")
    assert placement.blocks == place(small_card(), layers=3).blocks
    assert placement.cost is None
    assert placement.notes == (
        "goal balanced not applied: the cost is unknown",
        "cost unknown: the card does not have forward_seconds of every block",
    )


@pytest.mark.parametrize("asked", [{"rows": "1"}, {}, {"goal": "quality"}])
def test_without_timings_what_bounds_nothing_is_not_said_to_be_left_out(small_card, asked):
    placement = place(small_card(forward_seconds=None), **asked)
    assert placement.cost is None
    assert placement.notes == (
        "cost unknown: the card does not have forward_seconds of every block",
    )


def test_blocks_without_modules_are_left_out_and_that_is_said(small_card):
    modules = [(f"h.{i}.q",) if i % 2 else () for i in range(12)]
    placement = place(small_card(stacks={"h": 12}, modules=modules), policy="all")
    assert indices(placement) == (1, 3, 5, 7, 9, 11)
    note = "6 of 12 blocks have no module to adapt: h.0, h.2, h.4, h.6, h.8, ..."
    assert placement.notes == (note,)


def test_all_with_fewer_says_how_they_were_taken(small_card):
    note = "policy all with 3 of 12 blocks: they are evenly spread"
    assert place(small_card(), policy="all", layers=3).notes == (note,)
    assert place(small_card(), policy="all").notes == ()


def test_a_placement_can_stay_in_one_stack(small_card):
    card = small_card(stacks={"encoder.block": 3, "decoder.block": 4})
    placement = place(card, policy="all", stack="decoder")
    assert {block.stack for block in placement.blocks} == {"decoder.block"}
    assert indices(placement) == (0, 1, 2, 3)
    assert len(place(card, policy="all").blocks) == 7
    mixed = place(card, rows="encoder:2,decoder:0")
    assert [(b.stack, b.index) for b in mixed.blocks] == [
        ("encoder.block", 2),
        ("decoder.block", 0),
    ]


def test_natural_sizes_survive_a_goal(small_card):
    entropy = [2.0] * 12
    entropy[2] = 1.0
    card = small_card(attention_entropy=entropy, activation_gradient=1.0)
    assert indices(place(card, policy="ski")) == (1, 2, 3)
    assert len(place(card, policy="ski", goal="balanced").blocks) == 3
    assert indices(place(card, policy="ski", goal="balanced"))[0] >= 6


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        ({"rank": 0}, "LoRA rank: '0'; expected a whole number of at least 1"),
        ({"alpha": -1}, "LoRA alpha: '-1'; expected a whole number of at least 1"),
        (
            {"rows": "1", "layers": 2},
            "layers beside blocks that are named: '2'; expected one or the other",
        ),
        (
            {"rows": "1", "policy": "top"},
            "policy beside blocks that are named: 'top'; expected one or the other",
        ),
        (
            {"rows": "1", "goal": "cost"},
            "goal beside blocks that are named: 'cost'; expected one or the other",
        ),
    ],
)
def test_bad_wishes_are_refused_in_one_line(small_card, wish, line):
    with pytest.raises(PlacementError, match=exactly(line)):
        place(small_card(), **wish)


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        ({"policy": "tops"}, "unknown policy: 'tops'.*did you mean 'top'"),
        ({"goal": "speed"}, "unknown goal: 'speed'; expected one of quality, balanced, cost"),
        ({"stack": "encoder"}, "unknown stack: 'encoder'; expected one of model.layers"),
    ],
)
def test_unknown_names_are_refused(small_card, wish, line):
    with pytest.raises(UnknownNameError, match=line):
        place(small_card(), **wish)


def test_goals_fall():
    assert [GOALS[name] for name in GOALS] == [1.0, 0.75, 0.5]


def test_a_blocks_rank_counts_in_its_parameters_and_its_cost(small_card):
    card = small_card(parameters=400)
    one, other = place(card, rows="1,4"), place(card, rows="1,4", ranks="4=2")
    assert (one.adapter_parameters, other.adapter_parameters) == (160, 100)
    assert other.cost.step_ratio < one.cost.step_ratio
    whole = place(card, rows="1,4", rank=2)
    assert place(card, rows="1,4", rank=2, ranks="4=2") == whole


# --- Blocks that train whole ------------------------------------------------------------------


def test_whole_blocks_have_no_adapter_and_their_own_parameters(small_card):
    card = small_card(6, parameters=[10, 20, 30, 40, 50, 60])
    placed = place(card, rows="1,4", whole=True)
    assert (placed.whole, placed.trained, placed.adapter_parameters) == (True, 70, 0)
    assert (placed.rank, placed.modules) == (0, ())
    assert placed.cost == placement_cost(card, (1, 4), whole=True)
    assert placed.cost != placement_cost(card, (1, 4))
    assert placed.notes[0].startswith("signals and times are those of adapters")
    assert "whole_parameters" not in place(card, rows="1,4").to_plain()


def test_a_goal_bounds_whole_blocks_by_what_they_cost(small_card):
    card = small_card(12, parameters=800, forward_seconds=3.0)
    chosen = [
        place(card, policy="first", layers=4, goal="balanced", whole=whole) for whole in (0, 1)
    ]
    lowest = [placed.blocks[0].index for placed in chosen]
    assert lowest[0] > lowest[1]
    assert chosen[1].cost.step_ratio <= 0.75


@pytest.mark.parametrize("named", [{"rank": 8}, {"alpha": 16}, {"ranks": "1=4"}])
def test_adapters_of_whole_blocks_are_refused(small_card, named):
    ((name, _),) = named.items()
    with pytest.raises(PlacementError, match=f"LoRA {name} for blocks that .*try: drop --{name}"):
        place(small_card(), rows="1", whole=True, **named)
