"""An adapter on a terminal."""

from dataclasses import replace

import pytest

from layerwise.report.old import profile_table


def audited(planted_profile, audit, **options):
    return replace(planted_profile(**options), audit=audit)


def test_the_adapter_stands_before_the_depths(planted_profile, planted_audit, printed):
    made = audited(planted_profile, planted_audit(dead=(1,), card=(2, 3)))
    lines = printed(profile_table(made)).splitlines()
    heads = [line.split()[0] for line in lines if line.strip()]
    order = [heads.index(word) for word in ("LORA:", "Dead:", "Rank:", "Size:", "On", "Card:")]
    assert order == sorted(order)
    assert order[-1] < heads.index("depth")


def test_ten_blocks_from_the_first_to_the_last(planted_profile, planted_audit, printed):
    made = audited(planted_profile, planted_audit(card=(0, 29)))
    lines = printed(profile_table(made)).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("block "))
    rows = [line.split() for line in lines[start + 2 : start + 12]]
    assert [row[0] for row in rows] == ["0", "3", "6", "10", "13", "16", "19", "23", "26", "29"]
    assert [row[-1] == "●" for row in rows] == [True, *[False] * 8, True]
    assert rows[-1][:5] == ["29", "2", "10", "of", "16"]
    assert "dead" not in lines[start]


def test_size_and_effect_of_every_block_are_a_line_each(planted_profile, planted_audit, printed):
    made = audited(planted_profile, planted_audit(dead=(20,)))
    lines = [x.split() for x in printed(profile_table(made)).splitlines()]
    drawn = {x[0]: x[2] for x in lines if x[1:2] == ["%"] and x[0] in {"weights", "outputs"}}
    assert set(drawn) == {"weights", "outputs"}
    for levels in drawn.values():
        assert (len(levels), levels[0], levels[20], levels[29]) == (30, "▁", "▁", "█")


def test_dead_adapters_are_a_column_and_an_alarm(planted_profile, planted_audit, printed):
    made = audited(planted_profile, planted_audit(on=[4, 5], dead=(5,)))
    text = printed(profile_table(made), force_terminal=True)
    assert "\x1b[1;33mDead: " in text
    (row,) = (x.split() for x in printed(profile_table(made)).splitlines() if x.startswith("5 "))
    assert row[:6] == ["5", "2", "2", "0", "of", "16"]


def test_notes_are_said(planted_profile, planted_audit, printed):
    made = audited(planted_profile, planted_audit(notes=("something else was counted",)))
    assert "- note: something else was counted" in printed(profile_table(made))


def test_without_an_audit_there_is_none(planted_profile, printed):
    assert "LORA" not in printed(profile_table(planted_profile()))


@pytest.mark.parametrize("width", [32, 50, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_is_longer_than_the_terminal(
    planted_profile, planted_audit, printed, width, encoding
):
    made = audited(planted_profile, planted_audit(dead=(3,), card=(1, 2)))
    lines = printed(profile_table(made), width=width, encoding=encoding).splitlines()
    assert max(map(len, lines)) <= width
