"""Charts of an adapter by block."""

from dataclasses import replace

import pytest
import vl_convert

from layerwise.card.record import StackInfo
from layerwise.report.old.charts_profile import profile_charts


@pytest.fixture
def charts(planted_profile, planted_audit):
    """Makes the charts of a profile with a planted audit."""
    return lambda **options: profile_charts(
        replace(planted_profile(), audit=planted_audit(**options))
    )


def test_size_and_effect_are_two_lines(charts):
    rows = charts(card=(2,))["audit-size"]["datasets"]["audit-size"]
    assert len(rows) == 60
    assert {row["of"] for row in rows} == {"update over weights", "change of outputs"}
    assert [r["share"] for r in rows if r["of"].startswith("ch")] == pytest.approx(
        [0.00021 * (1 + i) for i in range(30)], rel=1e-5
    )
    assert "block 2 · on the card" in {row["head"] for row in rows}


def test_used_rank_is_a_bar_a_block(charts):
    rows = charts(on=[4, 9], card=(9,))["audit-rank"]["datasets"]["audit-rank"]
    assert [row["x"] for row in rows] == [4, 9]
    assert [row["share_tip"] for row in rows] == ["10 of 16", "10 of 16"]
    assert [row["carded"] for row in rows] == [False, True]


def test_a_gap_parts_the_stacks(planted_profile, planted_audit):
    profile = planted_profile(blocks=3)
    stacks = (
        StackInfo("encoder", 2, "B", "sequential"),
        StackInfo("decoder", 3, "B", "sequential"),
    )
    both = planted_audit(on=[0, 1], stack="encoder"), planted_audit(on=[2], stack="decoder")
    audit = replace(both[0], blocks=both[0].blocks + both[1].blocks)
    made = replace(profile, before=replace(profile.before, stacks=stacks), audit=audit)
    rows = profile_charts(made)["audit-rank"]["datasets"]["audit-rank"]
    assert [row["x"] for row in rows] == [0, 1, 5]
    assert rows[-1]["head"] == "decoder block 2"


def test_nothing_is_drawn_of_what_is_not_there(planted_profile, planted_audit, charts):
    assert "audit-size" not in profile_charts(planted_profile())
    empty = replace(planted_profile(), audit=replace(planted_audit(), blocks=()))
    assert not [name for name in profile_charts(empty) if name.startswith("audit")]
    bare = planted_audit()
    unknown = tuple(replace(b, relative_norm=None, output_change=None) for b in bare.blocks)
    made = profile_charts(replace(planted_profile(), audit=replace(bare, blocks=unknown)))
    assert "audit-size" not in made
    assert "audit-rank" in made


@pytest.mark.parametrize("name", ["audit-size", "audit-rank"])
def test_the_charts_can_be_drawn(charts, name):
    svg = vl_convert.vegalite_to_svg(charts(card=(2, 5))[name], allowed_base_urls=[])
    assert svg.count("<path") > 30
