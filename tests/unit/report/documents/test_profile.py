from dataclasses import replace

import numpy as np
import pytest

from layerwise.card.record import StackInfo
from layerwise.profile.record import Slope
from layerwise.report import charts, document, frames, html, text
from layerwise.report.blocks import Heading, Strip
from layerwise.report.documents.profile import fitted
from layerwise.report.numbers import percent
from support.cards import PROVENANCE

NAMES = {
    "depth-profile", "readout-hf", "readout-residual", "readout-normed", "cka", "rsa",
    "shared-pca-cka", "width", "held-out", "unrotated",
}  # fmt: skip


def verdict(profile):
    return document(profile).blocks[0]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (
            {},
            [
                "Change rises over depth: block 29 moved most.",
                "reaches 0.400 at block 29, 100 times the noise floor of 0.00400",
                "0.389 (0.359 to 0.419)",
                "an even profile would hold 14 %",
                "290 probes are fewer than the 576 dimensions: the rotation overfits",
                "Held out, the slope is 0.428; without a rotation 0.467.",
                "The readouts agree on the direction: slopes hf 0.389",
            ],
        ),
        ({"steepness": -0.04, "spread": 0.01}, ["Change falls over depth: block 0"]),
        ({"steepness": 0.01, "spread": 0.03}, ["Change has no clear direction over depth"]),
        (
            {"noise": 0.5},
            ["Nothing moved beyond the noise of the probes.", " 0.8 times the noise "],
        ),
        ({"noise": 0.0}, ["halves of the probes agree"]),
        (
            {"scales": {"hf": 1.0, "residual": 0.05, "normed": 1.0}},
            ["it rises under hf, it has no clear direction under residual"],
        ),
    ],
)
def test_a_profile_is_judged_with_its_figures(planted_profile, unsaid, how, wanted):
    profile = planted_profile(**how)
    told = verdict(profile)
    said = " ".join([told.text, *told.reasons])
    assert not unsaid(said, f"the last depth holds {percent(profile.width[-1])}", *wanted)


def test_a_rise_of_the_last_depth_alone_is_called_so(planted_profile):
    profile = planted_profile(steepness=-0.02)
    last, block = (replace(d, procrustes=0.5) for d in (profile.depths[-1], profile.blocks[-1]))
    depths, blocks = (*profile.depths[:-1], last), (*profile.blocks[:-1], block)
    slope = {"slope": 0.2, "slope_low": 0.1, "slope_high": 0.3}
    told = verdict(replace(profile, depths=depths, blocks=blocks, **slope))
    assert told.text == "Change rises at the last depth alone: block 29 moved most."
    six = [(depth.relative, depth.procrustes) for depth in depths[:-1]]
    below = np.polyfit(*zip(*six, strict=True), 1)[0]
    assert f"Without the last depth the slope is {below:.4f}." in told.reasons[1]


def test_nothing_moved_is_an_answer_in_every_form(still_profile, read_page, unsaid):
    profile = still_profile()
    assert verdict(profile).text.startswith("Nothing moved: ")
    assert verdict(profile).reasons == []
    assert set(document(profile).charts()) == NAMES - {"width"}
    said = read_page(html(profile)).said
    assert not unsaid(said, "Last depth's share –", "Procrustes distance, at every block")
    assert "█" not in text(profile)


def test_one_readout_agrees_with_nothing_and_strangers_are_none(planted_profile):
    alone = planted_profile(scales={"hf": 1.0})
    assert len(verdict(alone).reasons) == 4
    assert not any(name.startswith("readout") for name in document(alone).charts())
    several = frames(planted_profile(scales={"normed": 1.0, "../x": 1.0, "hf": 1.0}))
    assert list(several["slopes"]["readout"]) == ["hf", "normed"]


@pytest.mark.parametrize("other", [0.0, 0.01])
def test_it_is_said_where_the_shared_pca_leaves_nothing_out(planted_profile, other):
    profile = planted_profile()
    blocks = [replace(b, shared_pca_cka=b.cka) for b in profile.blocks]
    blocks[3] = replace(blocks[3], shared_pca_cka=blocks[3].cka + other)
    probes = replace(profile.probes, inputs=24, width=576, pca_components=256)
    said = " ".join(text(replace(profile, blocks=tuple(blocks), probes=probes)).split())
    found = "PCA keeps 23 components of the states of 24 probes" in said
    assert found is (other == 0.0)


def test_tables_have_the_record_s_numbers(planted_profile):
    profile = planted_profile()
    found = frames(profile)
    assert list(found["depths"]["procrustes"]) == [d.procrustes for d in profile.depths]
    assert list(found["blocks"]["rsa"]) == [b.rsa for b in profile.blocks]
    residual = [b.procrustes for b in profile.readouts["residual"].blocks]
    assert list(found["blocks"]["under_residual"]) == residual
    assert list(found["slopes"]["slope_high"]) == [r.slope_high for r in profile.readouts.values()]
    marked = document(profile).tables()["blocks"].marked
    assert marked == {d.index for d in profile.depths}


def test_a_terminal_shows_depths_every_block_slopes_and_words(planted_profile, unsaid):
    names = tuple(f"h.{n}.q" for n in range(11))
    said = text(planted_profile(notes=("a fallback",), untrained=names), width=100)
    assert not unsaid(
        said,
        "Depth profile: SmolLM2-135M-Instruct.Q4_K_M.gguf → standard/model",
        "3,412 tokens, 576 wide, readout hf",
        "0.0504 to 0.400",
        "0.389 0.359–0.419",
        "100 times the noise floor",
        "11 modules never trained (adapter B all zero)",
        "h.7.q and 3 more",
        "- note: a fallback",
    )
    assert "never trained" not in text(planted_profile())


def test_the_page_has_models_probes_and_hashes(planted_profile, read_page, unsaid):
    assert not unsaid(
        read_page(html(planted_profile())).said,
        "Slope 0.389 95 % interval 0.359 to 0.419",
        PROVENANCE.command,
        "before: model.safetensors " + "5a" * 32,
        "after: model.safetensors " + "c7" * 32,
        "Base model SmolLM2-135M-Instruct.Q4_K_M.gguf",
        "Probes SHA-256 " + "3f" * 32,
        "Shared PCA 256 components",
    )


def test_every_block_is_drawn_with_its_own_numbers(planted_profile):
    profile = planted_profile(blocks=12)
    made = document(profile).charts()
    assert set(made) == NAMES
    rows = made["depth-profile"].rows
    assert [row["procrustes"] for row in rows] == [b.procrustes for b in profile.blocks]
    assert [r["x"] for r in rows if r["marked"]] == sorted({d.index for d in profile.depths})
    assert rows[11]["head"] == "block 11 · depth 100 %"
    assert [row["share"] for row in made["width"].rows] == pytest.approx(profile.width, rel=1e-5)
    assert [rule.band for rule in made["depth-profile"].rules] == [True]
    assert document(planted_profile(noise=0.0)).charts()["depth-profile"].rules == []
    # A block may stand for two depths.
    assert document(planted_profile(blocks=6)).charts()["depth-profile"].top[1] == "25 %, 40 %"


def test_readouts_share_one_scale(planted_profile):
    profile = planted_profile(scales={"hf": 1.0, "residual": 0.1, "normed": 2.0})
    made = document(profile).charts()
    tops = {chart.y.most for name, chart in made.items() if name.startswith("readout-")}
    assert tops == {profile.readouts["normed"].blocks[-1].procrustes}


def test_the_line_is_that_of_least_squares_and_its_fan_turns_about_the_mean(planted_profile):
    profile = planted_profile(blocks=20)
    first, middle, last = document(profile).charts()["depth-profile"].lines
    depths = profile.depths
    slope, start = np.polyfit([d.relative for d in depths], [d.procrustes for d in depths], 1)
    for row, relative in ((first, 0.1), (last, 1.0)):
        assert row["x"] == pytest.approx(20 * relative - 1)
        assert row["procrustes"] == pytest.approx(start + slope * relative, rel=1e-4)
    assert middle["low"] == middle["high"] == middle["procrustes"]
    rows = fitted(depths, Slope(0.5, 0.4, 0.7), blocks=10)
    run = (rows[2]["x"] - rows[1]["x"]) / 10
    assert rows[2]["high"] - rows[1]["procrustes"] == pytest.approx(0.7 * run, rel=1e-4)


def test_a_profile_of_seven_depths_without_noise_is_drawn_too(planted_profile):
    profile = planted_profile(blocks=7)
    unknown = dict.fromkeys(("noise", "held_out", "unrotated"))
    bare = replace(profile, blocks=(), depths=tuple(replace(d, **unknown) for d in profile.depths))
    assert not {"held-out", "unrotated"} & set(document(bare).charts())
    (strip,) = (b for b in document(bare).blocks if isinstance(b, Strip))
    assert list(strip.values) == [d.procrustes for d in profile.depths]
    assert "noise" not in frames(bare)["blocks"]


# --- An adapter -------------------------------------------------------------------------------


@pytest.fixture
def audited(planted_profile, planted_audit):
    """Makes a profile of an adapter."""
    return lambda audit=None, **how: replace(planted_profile(), audit=audit or planted_audit(**how))


def sentences(profile):
    """What is said of an adapter, by its word."""
    blocks = document(profile).blocks
    place = next(n for n, b in enumerate(blocks) if getattr(b, "text", "") == "The adapter")
    return dict(next(b.pairs for b in blocks[place:] if hasattr(b, "pairs")))


def test_without_an_audit_there_is_no_word_of_it(planted_profile):
    assert "The adapter" not in text(planted_profile())
    assert "audit-rank" not in document(planted_profile()).charts()


def test_what_a_table_does_not_show_is_not_explained(audited, planted_audit):
    def explained(record):
        blocks = document(record).blocks
        at = next(n for n, x in enumerate(blocks) if x == Heading("What the columns mean", 2, True))
        return {name for name, _ in blocks[at + 1].pairs}

    alone = replace(planted_audit(), blocks=tuple(
        replace(block, output_change=None) for block in planted_audit().blocks
    ))  # fmt: skip
    assert {"Of weights", "Wasted"} <= explained(alone)
    assert not {"Moved", "Of outputs"} & explained(alone)
    assert {"Moved", "Of outputs", "CKA change"} <= explained(audited())


@pytest.mark.parametrize(
    ("spearman", "blocks", "told"),
    [
        (-1.0, 3, "Size and effect rank 3 blocks, too few to tell whether alike."),
        (-0.9, 5, "Size and effect rank the 5 blocks in opposite orders at Spearman -0.90."),
        (0.2, 8, "Size and effect rank the 8 blocks differently at Spearman 0.20."),
    ],
)
def test_ranks_are_alike_only_where_they_are(audited, planted_audit, spearman, blocks, told):
    audit = replace(planted_audit(blocks=blocks), depth_agreement=spearman)
    assert sentences(audited(audit))["On inputs"].endswith(told)


def test_the_adapter_is_counted_and_the_most_urgent_comes_first(audited, planted_audit):
    profile = audited(dead=(3, 4, 5, 9), card=(2, 4, 8))
    said = text(profile, width=200)
    assert "LORA: 60 modules in 30 blocks, rank 8, 552,960 parameters." in said
    dead = "8 of 60 adapters are dead, they change nothing, in blocks 3–5, 9."
    assert dead in said
    assert list(sentences(profile)) == ["Where", "Rank", "Size", "On inputs", "Card"]
    assert sentences(profile)["Where"] == "On q_proj, v_proj, in blocks 0–29."

    assert document(profile).blocks[0] == Heading("The adapter")
    assert said.index("On q_proj") < said.index("Where it moved")
    warned = [b for b in document(profile).blocks if getattr(b, "tone", "") == "warning"]
    assert [block.text for block in warned] == [dead]
    audit = planted_audit()
    outside = replace(audit.modules[0], name="embed", stack=None, index=None, rank=32)
    more = replace(audit, modules=(*audit.modules, outside), kinds=("LORA", "DoRA"))
    told = "LORA, DoRA: 60 modules in 30 blocks and 1 outside blocks, ranks 8 to 32"
    assert told in text(audited(more), width=200)


def test_no_adapter_is_dead_or_all_are(audited):
    assert sentences(audited())["Dead"] == "No adapter is dead: each changes its weight."
    every = audited(blocks=3, dead=(0, 1, 2))
    assert "All adapters are dead: the model is its base." in text(every)
    assert "Rank" not in sentences(every)


def test_a_sentence_with_many_blocks_is_shown_whole(audited):
    told = sentences(audited(on=range(0, 30, 2), card=range(1, 30, 2)))["Card"]
    assert len(told) > 400
    assert "…" not in told


def test_ranks_are_those_of_one_expert(audited, planted_audit):
    audit = planted_audit(on=[0])
    many = tuple(replace(m, rank=64, experts=8) for m in audit.modules)
    assert "rank 8," in text(audited(replace(audit, modules=many)), width=200)


def test_rank_size_and_effect_are_said_with_their_figures(audited):
    told = sentences(audited())
    assert "Of 8 directions the median adapter holds 90 % of its update in 3" in told["Rank"]
    assert "at rank 5 nine of ten adapters would keep that. 25 % of the parameters" in told["Rank"]
    assert "from 0.0140 % in block 0 to 0.420 % in block 29." in told["Size"]
    assert "it is 0.0300 of its weight at most, in model.layers.29.v_proj." in told["Size"]
    assert "in block 29, 1.50 times what the weights' norms would suggest" in told["On inputs"]
    assert told["On inputs"].endswith("rank the 30 blocks alike at Spearman 0.87.")
    assert "parameters" not in sentences(audited(wasted_share=0.001))["Rank"]


def test_what_is_not_known_is_left_out(audited, planted_audit):
    told = sentences(audited(relative_norm=None, depth_agreement=None))
    assert "Size" not in told
    assert "alike" not in told["On inputs"]
    audit = planted_audit()
    unknown = tuple(replace(b, relative_norm=None, output_change=None) for b in audit.blocks)
    silent = audited(replace(audit, blocks=unknown))
    assert "On inputs" not in sentences(silent)
    assert "audit-size" not in document(silent).charts()
    assert "audit-rank" in document(silent).charts()


def test_an_update_that_outweighs_its_weight_and_dora_s_magnitudes_are_said(audited, planted_audit):
    audit = planted_audit(on=[4])
    loud = tuple(replace(m, dominance=3.2) for m in audit.modules)
    told = sentences(audited(replace(audit, modules=loud)))["Size"]
    assert told.endswith("in model.layers.4.v_proj; it outweighs it.")
    audit = planted_audit()
    whole = tuple(replace(m, whole_relative_norm=2.0 * m.output_change) for m in audit.modules)
    told = sentences(audited(replace(audit, modules=whole)))
    assert "; with DoRA's magnitudes the median weight changed by 0.651 %. By" in told["Size"]
    assert "0.500 times what the weights' norms would suggest" in told["On inputs"]


def test_the_card_s_blocks_are_said_beside_the_adapter_s(audited):
    assert sentences(audited(card=(2, 4, 8)))["Card"] == (
        "The card (uniform) would have taken blocks 2, 4, 8; the adapter is there, and on 27 more. "
        "What both have holds 45 % of the update's squared norm. A step there takes 0.74 of one "
        "with all blocks, the adapter's 1.00. Residual norm and update rank the 30 blocks alike at "
        "Spearman 0.52."
    )
    apart = sentences(audited(on=[2, 3], card=(2, 4, 8)))["Card"]
    assert "the adapter is on 1 of these, not on blocks 4, 8, and on 1 more." in apart


def test_what_is_not_in_the_figures_is_named(audited, planted_audit):
    told = sentences(audited(unread={"h.0.q": "Linear does more"}, saved_modules=("score",)))
    assert told["Not read"] == (
        "1 adapted modules are not products B A (Linear does more). Trained and saved whole: score."
    )
    bare = replace(planted_audit(), modules=(), blocks=(), dead=(), unread={"h.0.q": "no"})
    nothing = audited(replace(bare, depth_agreement=None))
    assert list(sentences(nothing)) == ["Not read"]
    html(nothing)


def test_strips_show_all_blocks_of_the_base_in_order(audited):
    strips = [x for x in document(audited(on=[4, 9])).blocks if isinstance(x, Strip)]
    sizes = strips[0].values
    assert all(list(strip.indices) == list(range(30)) for strip in strips)
    assert [place for place, size in enumerate(sizes) if size] == [4, 9]


def test_every_adapted_block_and_module_is_a_row(audited):
    profile = audited(dead=(1,), card=(2, 3), notes=("odd",))
    made = document(profile).tables()
    assert made["adapter"].marked == {2, 3}
    assert made["modules"].marked == {2, 3}
    assert [row["used"] for row in made["adapter"].rows][:3] == ["2 of 16", "0 of 16", "6 of 16"]
    assert len(frames(profile)["modules"]) == 60
    assert "whole_relative_norm" not in frames(profile)["modules"]
    alive = audited()
    assert "dead" not in {column.key for column in document(alive).tables()["modules"].drawn}
    assert not frames(alive)["modules"]["dead"].any()  # What is not drawn is still a column.
    assert "10 of 30 rows" in text(profile, width=100)
    assert "- note: odd" in text(profile)


def test_size_effect_and_used_rank_are_drawn_by_block(audited, planted_audit):
    made = document(audited(on=[4, 9], card=(9,))).charts()
    assert len(made["audit-size"].rows) == 4
    assert {row["of"] for row in made["audit-size"].rows} == set(made["audit-size"].names)
    used = made["audit-rank"].rows
    assert [row["x"] for row in used] == [4, 9]
    assert [row["tip"] for row in used] == ["10 of 16", "10 of 16"]
    assert [row["of"] for row in used] == ["elsewhere", "on the card"]
    two = (StackInfo("encoder", 2, "B", "sequential"), StackInfo("decoder", 3, "B", "sequential"))
    both = planted_audit(on=[0, 1], stack="encoder"), planted_audit(on=[2], stack="decoder")
    profile = audited(replace(both[0], blocks=both[0].blocks + both[1].blocks))
    profile = replace(profile, before=replace(profile.before, stacks=two))
    rows = document(profile).charts()["audit-rank"].rows
    assert [row["x"] for row in rows] == [0, 1, 5]
    assert rows[-1]["head"] == "decoder block 2"


@pytest.mark.slow  # Pictures take seconds.
def test_charts_can_be_exported_and_the_page_stays_small(planted_profile, audited):
    assert len(charts(audited(card=(2, 5)))) == 2 * (len(NAMES) + 2)
    assert len(html(planted_profile(blocks=128, before="m" * 5000, stack="s" * 5000))) < 1_200_000
