import pytest

from layerwise.report.words import ranges, shown, visible


@pytest.mark.parametrize(
    ("indices", "expected"),
    [([], ""), ([3], "3"), ([1, 0], "0, 1"), ([4, 2, 3, 9], "2–4, 9"), ([1, 1, 2, 3], "1–3")],
)
def test_ranges_as_people_write_them(indices, expected):
    assert ranges(indices) == expected


def test_what_cannot_be_drawn_is_replaced_and_line_feeds_stay():
    assert visible("a\x00b\u202ec\ud800\nd") == "a�b�c�\nd"
    assert visible("שלום 模型 é") == "שלום 模型 é"


def test_text_is_on_one_line_and_keeps_both_ends():
    text = shown("begin" + "x" * 5000 + "end", limit=40)
    assert len(text) == 40
    assert (text[:5], text[-3:]) == ("begin", "end")
    assert shown("a\n b\t c") == "a b c"
