from dataclasses import replace

import pytest

from layerwise.columns import Column
from layerwise.report.blocks import Document, Figures, Heading, Strip, Table, Text, Verdict
from layerwise.report.renderers.terminal import Room, sparkline, terminal

WIDE, PLAIN = Room(80, ascii_only=False), Room(80, ascii_only=True)


def table(*columns, rows, **more):
    return Document("Kind", "title", "", [Table("t", columns, rows, **more)])


@pytest.mark.parametrize("width", [24, 40, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_is_longer_than_the_terminal(planted_document, printed, width, encoding):
    made = terminal(planted_document(f"some words and a {99 * 'w'}", blocks=96))
    text = printed(made, width=width, encoding=encoding)
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii() or encoding == "utf-8"


@pytest.mark.parametrize("text", ["[red]x", "[/]", "m\x1b[31m\x00", "a\u202eb"])
def test_text_is_text(planted_document, printed, text):
    said = printed(terminal(planted_document(text)))
    assert not set(said) & set("\x1b\x00\u202e")
    if text.isprintable():
        assert said.count(text) > 10


def test_no_colour_where_none_is_wanted(planted_document, monkeypatch, printed):
    monkeypatch.setenv("NO_COLOR", "1")
    said = printed(terminal(planted_document()), force_terminal=True)
    assert "\x1b[36m" not in said


def test_details_and_charts_are_left_to_the_page_and_verdicts_come_last(printed):
    blocks = [
        Verdict("Found.", ["Because."], ["Look again."], [f"n{k}" for k in range(10)]),
        Heading("Detail", detail=True),
        Text("hidden"),
        Heading("Inner", 3),
        Text("hidden too"),
        Heading("Empty"),
        Heading("Seen"),
        Text("shown"),
    ]
    lines = printed(terminal(Document("Kind", "title", "", blocks))).splitlines()
    assert [line.rstrip() for line in lines] == [
        "Kind: title",
        "",
        "Seen",
        "shown",
        "",
        "Found.",
        "Because.",
        "n0, n1, n2, n3, n4, n5, n6, n7 and 2 more",
        "- surer: Look again.",
    ]


COLUMNS = (
    Column("index", "Block", form="count"),
    Column("norm", "Residual norm", low="low", high="high", importance=100),
    *(Column(f"c{n}", f"Column {n}", importance=90 - n) for n in range(9)),
)
ROWS = [
    {"index": n, "norm": 1.0 + n, "low": 0.5, "high": 9.0, **{f"c{k}": 10.0 * k for k in range(9)}}
    for n in range(3)
]


def test_columns_give_way_by_their_importance_and_are_named(printed):
    narrow, wide = (printed(terminal(table(*COLUMNS, rows=ROWS)), width=w) for w in (40, 200))
    assert "no room for column" in narrow
    assert "column 8" in " ".join(narrow.split())
    assert "Residual" in narrow
    assert "no room" not in wide


def test_an_interval_stands_where_it_is_worth_more_than_another_column(printed):
    worthless = [replace(c, importance=1) for c in COLUMNS[2:]]
    few = printed(terminal(table(*COLUMNS[:2], *worthless, rows=ROWS)), width=40)
    assert "0.50–9.00" in few
    assert "0.50–9.00" not in printed(terminal(table(*COLUMNS, rows=ROWS)), width=40)


def test_the_longest_bar_is_the_largest_number(printed):
    lines = printed(terminal(table(*COLUMNS[:2], rows=ROWS, bar="norm"))).splitlines()
    assert [line.count("█") for line in lines if "█" in line] == [2, 5, 8]
    nothing = [{**row, "norm": 0.0} for row in ROWS]
    assert "█" not in printed(terminal(table(*COLUMNS[:2], rows=nothing, bar="norm")))


def test_marked_rows_groups_and_rows_left_out_are_told(printed):
    rows = [{"index": n, "norm": 1.5} for n in range(100)]
    made = table(*COLUMNS[:2], rows=rows, marked=frozenset({0, 99}), mark="adapted", most=10)
    lines = printed(terminal(made)).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("●") and "." in line] == [
        "0",
        "99",
    ]
    assert "● adapted; 10 of 100 rows" in lines[-1]
    two = printed(terminal(table(*COLUMNS[:2], rows=ROWS, groups={0: "[a]", 2: "b"})))
    assert {"[a]", "b"} <= {line.strip() for line in two.splitlines()}


def test_blocks_that_are_marked_are_signs_under_a_ruler(printed):
    strip = Strip("attn.q", range(12), on=frozenset({3, 11}))
    lines = printed(terminal(Document("K", "t", "", [strip]))).splitlines()
    assert [" ".join(line.split()) for line in lines[2:]] == ["0 10", "attn.q ···●·······● 2 of 12"]
    folded = printed(terminal(Document("K", "t", "", [strip])), width=40)
    assert folded.count("●") == 2


def test_strips_below_each_other_begin_in_one_place(printed):
    strips = [Strip(label, range(3), on=frozenset({0})) for label in ("q", "self_attn.q_proj")]
    lines = printed(terminal(Document("K", "t", "", strips))).splitlines()
    assert [line.index("●") for line in lines if "●" in line] == [18, 18]


def test_blocks_with_numbers_are_levels(printed):
    strip = Strip("change", range(3), values=[0.0, 1.0, 7.0], most=7.0)
    said = printed(terminal(Document("K", "t", "", [strip])))
    assert "▁▂█" in said
    assert "0 to 7" in said


def test_a_sparkline_keeps_to_its_scale_and_room():
    assert sparkline([-3, 9], 10, WIDE, most=7).plain == "▁█"
    assert sparkline([0, 0], 10, WIDE, most=0).plain == "▁▁"
    assert sparkline([], 10, WIDE, most=1).plain == ""
    assert sparkline([0] * 50 + [7] + [0] * 49, 10, WIDE, most=7).plain == "▁▁▁▁▁█▁▁▁▁"
    assert sparkline([0, 7], 10, PLAIN, most=7).plain.isascii()


def test_what_is_empty_draws_nothing(printed):
    blocks = [Table("t", COLUMNS, []), Figures([])]
    assert printed(terminal(Document("K", "t", "", blocks))).split() == ["K:", "t"]
