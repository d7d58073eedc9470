import pytest

from layerwise.report.old.terminal import Room, bars, sparkline, tabled

WIDE, PLAIN = Room(80, ascii_only=False), Room(80, ascii_only=True)


def test_a_sparkline_has_a_level_a_value():
    assert sparkline([0, 1, 2, 7], 10, WIDE, most=7).plain == "▁▂▃█"


def test_what_exceeds_the_top_or_lies_below_0_stays_on_the_scale():
    assert sparkline([-3, 9], 10, WIDE, most=7).plain == "▁█"


def test_a_sparkline_of_nothing_is_flat_or_empty():
    assert sparkline([0, 0], 10, WIDE, most=0).plain == "▁▁"
    assert sparkline([], 10, WIDE, most=1).plain == ""


def test_more_values_than_room_keep_their_largest():
    drawn = sparkline([0] * 50 + [7] + [0] * 49, 10, WIDE, most=7).plain
    assert drawn == "▁▁▁▁▁█▁▁▁▁"


def test_ascii_has_levels_too():
    assert sparkline([0, 7], 10, PLAIN, most=7).plain.isascii()


@pytest.mark.parametrize("values", [[None, None], [0.0, -1.0]])
def test_bars_of_nothing_are_empty(values):
    assert [bar.plain.strip() for bar in bars(values, 5, WIDE)] == ["", ""]


def test_brackets_in_a_table_are_brackets(printed):
    text = printed(tabled(["[b]head"], [["[red]x"]], WIDE))
    assert "[b]head" in text
    assert "[red]x" in text
