import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwise.data import Example, read
from layerwise.data.sources import table
from layerwise.errors import BadInputError, DataError, UnknownNameError


@pytest.fixture
def jsonl(tmp_path):
    def write(rows):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def numbered(count):
    return [{"text": f"text {i}", "even": i % 2 == 0} for i in range(count)]


def dicts(pairs):
    return tuple({"role": role, "content": content} for role, content in pairs)


def chat(*pairs):
    return {"messages": list(dicts(pairs))}


def test_reads_text_in_order(jsonl):
    data = read(jsonl(numbered(3)))
    assert [e.text for e in data.examples] == ["text 0", "text 1", "text 2"]
    assert (data.columns, data.available) == ({"text": "text"}, 3)
    assert data.notes == ("read 3 rows as texts; columns not used: even",)


def test_plain_texts_need_no_note(jsonl):
    assert read(jsonl([{"text": "a"}])).notes == ()
    assert read(jsonl(numbered(4)), where=["even=True"]).notes == ()


def test_reads_prompt_and_label(jsonl):
    rows = [{"q": "why", "a": "so", "y": 3}, {"q": None, "a": "b", "y": 1}, {"a": "c", "y": 1}]
    data = read(jsonl(rows), text_column="a", prompt_column="q", label_column="y")
    assert data.examples[0] == Example("so", prompt="why", label="3")
    assert [e.prompt for e in data.examples[1:]] == ["", ""]
    assert data.columns == {"text": "a", "prompt": "q", "label": "y"}


@pytest.mark.parametrize(
    ("row", "options", "column"),
    [
        *(
            ({"stars": 3, n: "good"}, {}, n)
            for n in ("text", "content", "sentence", "review", "odd")
        ),
        ({"stars": "3", "remark": "good"}, {}, "remark"),
        ({"question": "why", "answer": "so"}, {"prompt_column": "question"}, "answer"),
    ],
)
def test_text_column_is_found(jsonl, row, options, column):
    assert read(jsonl([row]), **options).columns["text"] == column


CHAT = [("user", "hi"), ("assistant", "yes")]
ASKED = {"text_column": "text"}


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        ([{"heading": "why", "words": "so"}], {}, DataError, r"heading, words.*--text-column NAME"),
        ([{"n": 1, "m": 2}], {}, DataError, r"which column is the text.*'n, m'"),
        *(([{"text": "a", "n": 1}], {role: "txet"}, UnknownNameError,
           r"unknown column: 'txet'.*did you mean 'text'")
          for role in ("text_column", "prompt_column", "label_column")),
        (numbered(2), {"text_column": "text", "prompt_column": "text"}, BadInputError,
         "one column in two roles"),
        ([{"text": "a"}, {"text": 7}], ASKED, DataError,
         "row 2 of column 'text' is no text: '7'"),
        ([{"text": ""}], ASKED, DataError,
         r"nothing is left to learn in any row .1 empty row.: 'text'"),
        ([{"text": "a", "label": None}], {"label_column": "label"}, DataError,
         "in any row .1 row without a label."),
        ([{**chat(*CHAT), "q": "why"}], {"prompt_column": "q"}, BadInputError,
         "prompt column beside a chat"),
        ([chat(CHAT[0])], {}, DataError, "in any row .1 row without an answer in the loss."),
        *(([{"messages": [turn]}], {}, DataError,
           r"row 1 of column 'messages' is no chat.*role, content")
          for turn in ("hi", {"role": "user"}, {"role": 7, "content": "a"})),
        (numbered(4), {"where": ["even=yes"]}, DataError, r"no row matches: 'even=yes'.*True, Fa"),
        (numbered(4), {"where": ["even"]}, BadInputError,
         "condition: 'even'; expected COLUMN=VALUE"),
        (numbered(4), {"where": ["evn=True"]}, UnknownNameError, "did you mean 'even'"),
        *((numbered(3), {"examples": n}, BadInputError,
           f"number of examples: '{n}'; expected at least 1") for n in (0, -1)),
    ],
)  # fmt: skip
def test_what_cannot_be_read_so_is_refused(jsonl, rows, options, error, message):
    with pytest.raises(error, match=message):
        read(jsonl(rows), **options)


def test_blank_texts_are_left_out_and_said(jsonl, caplog):
    with caplog.at_level(logging.WARNING):
        data = read(jsonl([{"text": "a"}, {"text": " "}, {"text": None}, {}]), text_column="text")
    assert [e.text for e in data.examples] == ["a"]
    assert data.notes == ("read 4 rows as texts; 3 empty rows left out",)
    assert data.available == 1
    assert data.notes[0] in caplog.text


def test_rows_without_a_label_are_left_out_and_said(jsonl):
    rows = [{"text": "a", "label": 1}, {"text": "b"}, {"text": "", "label": 0}, {"text": "c"}]
    data = read(jsonl([*rows, {"text": "d", "label": " "}]), label_column="label")
    assert [(e.text, e.label) for e in data.examples] == [("a", "1")]
    (note,) = data.notes
    assert note == (
        "read 5 rows as texts with 1 class; 3 rows without a label left out; 1 empty row left out"
    )


def test_chats(jsonl, tmp_path):
    turns = (("user", "hi"), ("assistant", "hello"), ("user", "so"), ("assistant", "bye"))
    name = jsonl([chat(*turns), {"messages": []}])
    table(name).to_parquet(tmp_path / "a.parquet")
    for source in (name, str(tmp_path / "a.parquet")):
        data = read(source)
        assert data.columns == {"messages": "messages"}
        assert data.examples == (Example("hello\nbye", messages=dicts(turns)),)
        assert data.notes == ("read 2 rows as chats; 1 empty row left out",)
    rows = [{"talk": chat(*turns)["messages"], "text": "no"}]
    assert read(jsonl(rows), text_column="talk").examples[0].text == "hello\nbye"


def test_conditions_are_all_met(jsonl):
    data = read(jsonl(numbered(10)), where=["even=True", "text=text 4"])
    assert [e.text for e in data.examples] == ["text 4"]
    assert len(read(jsonl([{"text": "a=b"}, {"text": "a"}]), where=["text=a=b"])) == 1


@given(count=st.integers(1, 40), seed=st.integers(0, 5))
def test_a_draw_is_distinct_rows_in_order(tmp_path_factory, count, seed):
    path = tmp_path_factory.mktemp("draw") / "a.txt"
    path.write_text("".join(f"{i}\n" for i in range(40)))
    data = read(str(path), examples=count, seed=seed)
    numbers = [int(e.text) for e in data.examples]
    assert len(numbers) == count
    assert numbers == sorted(set(numbers))
    assert data.available == 40
    assert data == read(str(path), examples=count, seed=seed)


def test_the_seed_changes_the_draw(jsonl):
    source = jsonl(numbered(100))
    assert read(source, examples=10).examples != read(source, examples=10, seed=1).examples


def test_too_few_to_draw_from_is_said(jsonl):
    data = read(jsonl(numbered(3)), examples=9)
    assert len(data) == 3
    assert data.notes[1:] == ("9 examples were asked for, 3 are there",)


def test_hash_is_of_what_was_read(jsonl, tmp_path):
    rows = [{"text": "a", "other": "x"}, {"text": "b", "other": "y"}]
    first = read(jsonl(rows)).sha256
    assert len(first) == 64
    (tmp_path / "same.csv").write_text("text,unused\na,1\nb,2\n")
    assert read(str(tmp_path / "same.csv")).sha256 == first
    assert read(jsonl(rows), where=["text=a"]).sha256 != first
    assert read(jsonl(rows), label_column="other").sha256 != first
    assert read(jsonl(rows), text_column="other").sha256 != first
    assert read(jsonl(rows[::-1])).sha256 != first


def test_hash_knows_columns_with_equal_content(jsonl):
    source = jsonl([{"one": "a", "two": "a"}])
    assert read(source, text_column="one").sha256 != read(source, text_column="two").sha256
