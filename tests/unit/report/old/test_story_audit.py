"""An adapter in words: what a user needs first."""

from dataclasses import replace

import pytest

from layerwise.placement.record import PlacedBlock
from layerwise.report.old.story_audit import audit_headline, audit_sentences, block_names, rank_text


def test_the_headline_counts(planted_audit):
    audit = planted_audit()
    assert audit_headline(audit) == ("LORA: 60 modules in 30 blocks, rank 8, 552,960 parameters.")
    outside = replace(audit.modules[0], name="embed", stack=None, index=None, rank=32)
    more = replace(audit, modules=(*audit.modules, outside), kinds=("LORA", "DoRA"))
    assert audit_headline(more).startswith(
        "LORA, DoRA: 60 modules in 30 blocks and 1 outside blocks, ranks 8 to 32, "
    )


def test_ranks_are_those_of_one_expert(planted_audit):
    audit = planted_audit(on=[0])
    many = tuple(replace(m, rank=64, experts=8) for m in audit.modules)
    assert rank_text(replace(audit, modules=many)) == "rank 8"
    assert rank_text(replace(audit, modules=())) == "no rank"


def test_the_most_urgent_comes_first(planted_audit):
    told = audit_sentences(planted_audit(dead=(3, 4, 5, 9), card=(2, 4, 8)))
    assert list(told) == ["Dead", "Rank", "Size", "On inputs", "Card"]
    assert told["Dead"] == ("8 of 60 adapters are dead, they change nothing, in blocks 3–5, 9.")


def test_no_adapter_is_dead_or_all_are(planted_audit):
    assert audit_sentences(planted_audit())["Dead"] == (
        "No adapter is dead: each changes its weight."
    )
    told = audit_sentences(planted_audit(blocks=3, dead=(0, 1, 2)))
    assert told["Dead"] == "All adapters are dead: the model is its base."
    assert "Rank" not in told


def test_rank_that_would_do_and_rank_that_is_wasted(planted_audit):
    told = audit_sentences(planted_audit())["Rank"]
    assert told.startswith("Of 8 directions the median adapter holds 90 % of its update in 3 ")
    assert "(stable rank 1.96, effective rank 3); rank 5 would do for nine in ten." in told
    assert told.endswith("25 % of the parameters are dead or in directions that hold the last 1 % "
                         "of an update.")  # fmt: skip
    assert "dead or in" not in audit_sentences(planted_audit(wasted_share=0.0))["Rank"]


def test_size_from_the_smallest_block_to_the_largest(planted_audit):
    told = audit_sentences(planted_audit())["Size"]
    assert told.startswith(
        "The update is 0.230 % of the weights that it adapts, from 0.0140 % in block 0 to "
        "0.420 % in block 29."
    )
    assert "it is 0.0300 of its weight at most, in model.layers.29.v_proj" in told
    assert "outweighs" not in told


def test_an_update_that_outweighs_its_weight_is_said(planted_audit):
    audit = planted_audit(on=[4])
    loud = tuple(replace(m, dominance=3.2) for m in audit.modules)
    told = audit_sentences(replace(audit, modules=loud))["Size"]
    assert told.endswith("in model.layers.4.v_proj; it outweighs it.")
    assert "from" not in told


def test_dora_s_magnitudes_are_in_the_size_and_in_what_outputs_are_held_against(planted_audit):
    audit = planted_audit()
    whole = tuple(replace(m, whole_relative_norm=2.0 * m.output_change) for m in audit.modules)
    told = audit_sentences(replace(audit, modules=whole))
    assert "; with DoRA's magnitudes the median weight changed by 0.651 %. By" in told["Size"]
    assert "0.500 times what the weights' norms would suggest" in told["On inputs"]


def test_what_weights_alone_cannot_tell(planted_audit):
    told = audit_sentences(planted_audit())["On inputs"]
    assert "in block 29, 1.50 times what the weights' norms would suggest" in told
    assert told.endswith("Size and effect rank the blocks alike at Spearman 0.87.")
    audit = planted_audit()
    silent = tuple(replace(b, output_change=None) for b in audit.blocks)
    assert "On inputs" not in audit_sentences(replace(audit, blocks=silent))


def test_the_card_s_blocks_beside_the_adapter_s(planted_audit):
    there = audit_sentences(planted_audit(card=(2, 4, 8)))["Card"]
    assert there == (
        "The card (uniform) would have taken blocks 2, 4, 8; the adapter is there, and on 27 more. "
        "What both have holds 45 % of the update's squared norm. A step there takes 0.74 of one "
        "with all blocks, the adapter's 1.00. Residual norm and update rank its 30 blocks alike at "
        "Spearman 0.52."
    )
    apart = audit_sentences(planted_audit(on=[2, 3], card=(2, 4, 8)))["Card"]
    assert "the adapter is on 1 of these, not on blocks 4, 8, and on 1 more." in apart


def test_unknown_sizes_are_left_out(planted_audit):
    audit = planted_audit(relative_norm=None, depth_agreement=None)
    told = audit_sentences(audit)
    assert "Size" not in told
    assert "alike" not in told["On inputs"]


def test_what_is_not_in_the_figures_is_named(planted_audit):
    audit = planted_audit(unread={"h.0.q": "Linear does more"}, saved_modules=("score",))
    assert audit_sentences(audit)["Not read"] == (
        "1 adapted modules are not products B A (Linear does more). Trained and saved whole: score."
    )
    nothing = replace(audit, modules=(), blocks=(), dead=())
    assert list(audit_sentences(nothing)) == ["Not read"]


@pytest.mark.parametrize(
    ("blocks", "told"),
    [
        ([], ""),
        ([("h", 3)], "block 3"),
        ([("h", 0), ("h", 1), ("h", 2)], "blocks 0–2"),
        ([("encoder", 0), ("decoder", 1), ("decoder", 3)],
         "block 0 of encoder and blocks 1, 3 of decoder"),
    ],
)  # fmt: skip
def test_blocks_as_people_write_them(blocks, told):
    assert block_names(PlacedBlock(stack, index) for stack, index in blocks) == told
