import json

import numpy as np
import pandas as pd
import pytest

from layerwise.data import read
from layerwise.errors import DataError


def turns(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


ASK, TELL = {"role": "user", "content": "Oslo?"}, {"role": "assistant", "content": "Norway"}
CALL = {"id": "1", "type": "function", "function": {"name": "rain", "arguments": {"city": "Oslo"}}}
TOOL = {"type": "function", "function": {"name": "rain", "parameters": {}}}
TOLD = {"role": "assistant", "content": None, "tool_calls": [CALL]}


def one(*rows, **options):
    """The only example of `rows`, and what was said of them."""
    data = read(list(rows), **options)
    (example,) = data.examples
    return example, "; ".join(data.notes)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": [ASK, TELL]}, "chats"),
        ({"messages": json.dumps([ASK, TELL])}, "chats"),
        ({"messages": str([ASK, TELL])}, "chats"),
        ({"messages": np.array([ASK, TELL])}, "chats"),
        ({"talk": (ASK, TELL)}, "chats"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Os"}, "lo?"]}, TELL]},
         "chats"),
        ({"conversations": [{"from": "human", "value": "Oslo?"},
                            {"from": "gpt", "value": "Norway"}]}, "ShareGPT chats"),
        ({"conversations": [{"role": "user", "value": "Oslo?"}, TELL]}, "chats"),
        ({"prompt": [ASK], "completion": [TELL]}, "prompts with completions"),
        ({"prompt": [ASK], "completion": "Norway"}, "prompts with completions"),
        ({"prompt": "Oslo?", "completion": [TELL]}, "prompts with completions"),
        ({"chosen": [ASK, TELL], "rejected": turns(("user", "Oslo?"), ("assistant", "Peru"))},
         "preference pairs"),
        ({"prompt": [ASK], "chosen": [TELL], "rejected": turns(("assistant", "Peru"))},
         "preference pairs"),
        ({"prompt": "Oslo?", "chosen": [ASK, TELL], "rejected": [ASK, {**TELL, "content": "x"}]},
         "preference pairs"),
        ({"conversations": [{"from": "human", "value": "Oslo?"}],
          "chosen": {"from": "gpt", "value": "Norway"}, "rejected": {"from": "gpt", "value": "x"}},
         "preference pairs"),
        ({"prompt": [ASK], "completion": [TELL], "label": True},
         "answers labelled desirable or not"),
    ],
)  # fmt: skip
def test_chats_in_every_shape_are_the_same_turns(row, name):
    example, note = one(row)
    assert (example.text, example.messages, example.untrained) == ("Norway", (ASK, TELL), ())
    assert note.startswith(f"read 1 row as {name}")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "Oslo?", "completion": "Norway"}, "prompts with completions"),
        *(({p: "Oslo?", a: "Norway"}, f"prompts with completions, {a} after {p}")
          for p, a in [("prompt", "response"), ("question", "answer"), ("input", "output"),
                       ("instruction", "response"), ("query", "response")]),
        ({"instruction": "Oslo?", "input": "", "output": "Norway"}, "Alpaca instructions"),
        ({"instruction": "Oslo?", "output": "Norway", "system": None, "history": []},
         "Alpaca instructions"),
        ({"prompt": "Oslo?", "chosen": "Norway", "rejected": "Peru"}, "preference pairs"),
        ({"prompt": "Oslo?", "completion": "Norway", "label": True},
         "answers labelled desirable or not"),
    ],
)  # fmt: skip
def test_prompts_and_answers_in_every_shape(row, name):
    example, note = one(row)
    assert (example.prompt, example.text, example.messages) == ("Oslo?", "Norway", None)
    assert note.startswith(f"read 1 row as {name}")


def test_alpaca_with_all_that_it_may_have():
    row = {
        "instruction": "Sum up.", "input": "Long text", "output": "Text",
        "system": "Be brief.", "history": [["Hi", "Hello"], ["So", "Yes"]],
    }  # fmt: skip
    example, _ = one(row)
    before = turns(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "So"))
    after = turns(("assistant", "Yes"), ("user", "Sum up.\nLong text"), ("assistant", "Text"))
    assert example.messages == (*before, *after)
    assert example.text == "Hello\nYes\nText"
    plain, _ = one({"instruction": "Sum up.", "input": "Long text", "output": "Text"})
    assert (plain.prompt, plain.text) == ("Sum up.\nLong text", "Text")


def test_what_stands_beside_a_prompt_is_read_too():
    example, note = one({"question": "Where?", "answer": "Oslo", "context": "It is in Oslo."})
    assert (example.prompt, example.text) == ("Where?\nIt is in Oslo.", "Oslo")
    assert note == "read 1 row as prompts with completions, answer after question and context"
    system = {"role": "system", "content": "Be brief."}
    for row in (
        {"prompt": "Oslo?", "completion": "Norway"},
        {"prompt": [ASK], "completion": [TELL]},
        {"prompt": [ASK], "chosen": [TELL], "rejected": [{**TELL, "content": "Peru"}]},
        {"question": "Oslo?", "chosen": "Norway", "rejected": "Peru"},
    ):
        assert one({**row, "system": "Be brief."})[0].messages == (system, ASK, TELL)
    assert one({"prompt": "a", "completion": "b", "tools": [TOOL]})[0].shown == {"tools": [TOOL]}
    assert one({"question": "a", "answer": "b", "text": "c"})[0].text == "c"


def test_tools_calls_and_results_stay():
    row = {"messages": [ASK, TOLD, {"role": "tool", "content": "yes"}, TELL], "tools": [TOOL]}
    example, _ = one(row)
    assert example.messages == tuple(row["messages"])
    assert example.shown == {"tools": [TOOL]}
    assert '"name": "rain"' in example.text
    written = {"messages": json.dumps(row["messages"]), "tools": json.dumps([TOOL["function"]])}
    assert one(written)[0] == example


OURS = {k: v for k, v in CALL.items() if k != "id"}
BARE = {"name": "rain", "arguments": {"city": "Oslo"}}
WRITTEN = {"name": "rain", "arguments": '{"city": "Oslo"}'}


@pytest.mark.parametrize(
    ("told", "call"),
    [
        ({"tool_calls": [{**CALL, "function": WRITTEN}]}, CALL),
        ({"tool_calls": json.dumps([{**CALL, "function": WRITTEN}])}, CALL),
        ({"tool_calls": [BARE]}, OURS),
        ({"tool_calls": str([BARE])}, OURS),
        ({"function_call": WRITTEN}, OURS),  # As they were written before tools.
        ({"from": "function_call", "value": json.dumps(BARE)}, OURS),
    ],
)
def test_calls_as_others_write_them(told, call):
    answer = {"from": "observation"} if "from" in told else {"role": "function", "name": "rain"}
    turn = told if "from" in told else {"role": "assistant", "content": None, **told}
    row = {"conversations": [ASK, turn, {**answer, "value": "yes"}, TELL], "system": "Help.",
           "functions": [json.dumps(TOOL["function"])]}  # fmt: skip
    example, _ = one(row)
    result = {"role": "tool", "content": "yes"} | ({} if "from" in told else {"name": "rain"})
    wanted = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert example.messages == ({"role": "system", "content": "Help."}, ASK, wanted, result, TELL)
    assert example.shown == {"tools": [TOOL]}


def test_a_system_column_does_not_stand_beside_a_system_turn():
    system = {"role": "system", "content": "Mine."}
    assert one({"messages": [system, ASK, TELL], "system": "Other."})[0].messages[0] == system


@pytest.mark.parametrize(
    ("key", "value"),
    [("train", False), ("training", False), ("loss", False), ("weight", 0), ("weight", 0.0)],
)
def test_turns_that_are_out_of_the_loss(key, value):
    row = {"messages": [ASK, {**TELL, key: value}, ASK, {**TELL, key: not value}]}
    example, _ = one(row)
    assert (example.messages, example.untrained) == ((ASK, TELL, ASK, TELL), (1,))
    for shape in ({"messages": [ASK, TELL]}, {"prompt": "Oslo?", "completion": "Norway"},
                  {"chosen": [ASK, TELL], "rejected": [ASK]}):  # fmt: skip
        wanted, _ = one(shape)
        for written in (value, str(value)):
            example, note = one({**shape, key: written}, shape, {**shape, key: written})
            assert (example.content(), "not used" in note) == (wanted.content(), False)
            assert "2 rows that the data keeps out of the loss left out" in note


def test_what_tells_more_than_true_and_false_is_no_loss():
    rows = [{"messages": [ASK, TELL], "weight": weight} for weight in (0, 71.5)]
    data = read(rows)
    assert (len(data), data.notes) == (2, ("read 2 rows as chats; columns not used: weight",))


def test_answers_in_a_prompt_are_out_of_the_loss():
    row = {"prompt": [ASK, TELL, ASK], "completion": [TELL]}
    assert one(row)[0].untrained == (1,)
    row = {"chosen": [ASK, TELL, ASK, TELL], "rejected": [ASK, TELL, ASK, {**TELL, "content": "x"}]}
    assert one(row)[0].untrained == (1,)
    same = {"chosen": [ASK, TELL], "rejected": [ASK, TELL]}
    assert one(same)[0].untrained == ()


def test_what_both_answers_share_is_the_prompt():
    row = {"chosen": "Human: Oslo? Assistant: Norway", "rejected": "Human: Oslo? Assistant: Nope"}
    example, note = one(row)
    assert (example.prompt, example.text) == ("Human: Oslo? Assistant: ", "Norway")
    assert "the chosen answers are in the loss, the rejected are not" in note


@pytest.mark.parametrize("written", [
    bool, str, int, float, lambda good: str(good).lower(),
    lambda good: 1 if good else -1, lambda good: "+1.0" if good else "-1.0",
    lambda good: 4.5 if good else None,
])  # fmt: skip
def test_undesirable_answers_are_left_out(written):
    rows = [{"prompt": "a", "completion": c, "label": written(c == "b")} for c in "bcd"]
    example, note = one(*rows)
    assert example.text == "b"
    assert "2 rows not labelled true left out; those labelled true are in the loss" in note


@pytest.mark.parametrize(
    ("rows", "left"),
    [
        ([{"messages": [ASK, TELL]}, {"prompt": "a", "completion": "b"}, {"messages": []}],
         ["1 row of another format (prompts with completions)", "1 empty row"]),
        ([{"messages": [ASK, TELL]}, {"text": "a"}, {"other": "c"}],
         ["1 row of another format (texts)", "1 empty row"]),
        ([{"chosen": "a b", "rejected": "a c"}, {"messages": [ASK, TELL]}],
         ["1 row of another format (chats)"]),
        ([{"prompt": "a", "completion": "b"}, {"instruction": "c", "output": "d"}, {"prompt": "e"}],
         ["1 row of another format (prompts with completions)", "1 empty row"]),
    ],
)  # fmt: skip
def test_rows_of_another_format_are_left_out_as_such(rows, left):
    data = read(rows)
    assert len(data) == 1
    said = [part for part in data.notes[0].split("; ") if part.endswith("left out")]
    assert said == [f"{what} left out" for what in left]


@pytest.mark.parametrize("few", [
    {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
    {"chosen": "a b", "rejected": "a c"},
    {"input_ids": [1, 2]},
    {"instruction": "c", "output": "d"},
])  # fmt: skip
@pytest.mark.parametrize("many", [{"messages": [ASK, TELL]}, {"text": "a"}])
def test_the_format_of_most_rows_is_read(few, many):
    data = read([many, few, many, {"other": ""}])
    assert len(data) == 2
    assert "1 row of another format" in data.notes[0]
    assert len(read([few, many, few, few])) == 3


def test_options_of_the_template_and_reasoning_stay():
    row = {"messages": [ASK, {**TELL, "reasoning_content": "North."}],
           "chat_template_kwargs": '{"enable_thinking": false}'}  # fmt: skip
    example, _ = one(row)
    assert example.shown == {"enable_thinking": False}
    assert example.messages[1]["reasoning_content"] == "North."


def test_kinds_are_told_by_all_rows():
    chat = {"messages": [ASK, TELL]}
    data = read([{"messages": None}, {"messages": []}, {"text": "x"}, chat, {"messages": [ASK]}])
    assert [e.messages for e in data.examples] == [(ASK, TELL)]
    left = "2 empty rows left out; 1 row of another format (texts) left out; "
    left += "1 row without an answer in the loss left out"
    assert data.notes == (f"read 5 rows as chats; {left}; columns not used: text",)


def test_columns_that_are_asked_for_win():
    row = {
        "prompt": "p",
        "completion": "c",
        "chosen": "x",
        "rejected": "y",
        "messages": [ASK, TELL],
    }
    assert one(row, text_column="rejected")[0].text == "y"
    assert one(row, text_column="messages")[0].text == "Norway"
    asked = one(row, text_column="completion", prompt_column="chosen")[0]
    assert (asked.prompt, asked.text) == ("x", "c")


def test_tokens_and_what_of_them_counts():
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "attention_mask": [1, 1, 0]},
        {"input_ids": [5, 6, 7], "labels": [-100, -100, -100], "attention_mask": [1, 1, 1]},
    ]
    example, note = one(*rows)
    assert (example.ids, example.counted) == ((5, 6), (False, True))
    assert note == "read 2 rows as tokens; 1 row with nothing in the loss left out"


PICTURE = {"bytes": b"\x89PNG", "path": None}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [ASK, {"role": "assistant", "content": 7}]}, "says no text"),
        ({"messages": [ASK, {**TELL, "weight": 0.5}]}, r"weighs a turn.*weight 0 or 1"),
        ({"messages": [ASK, {**TELL, "tool_calls": [{"id": "1"}]}]}, "tool call without a name"),
        ({"messages": [ASK, {**TELL, "tool_calls": "rain"}]}, "tool call without a name"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}, TELL]},
         "row 1 of column 'messages' shows more than text.*: 'video'"),
        ({"messages": [ASK, {"role": "assistant", "content": "\ud800"}]}, "half a character"),
        ({"text": "a\ud800"}, "row 1 of column 'text' holds half a character .at 1."),
        ({"messages": [ASK, TELL], "tools": "rain"}, "row 1 of column 'tools' holds no tools"),
        ({"messages": [ASK, TELL], "chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
         "holds no options of a template"),
        ({"messages": [ASK, TELL], "chat_template_kwargs": [1]}, "no options of a template"),
        ({"instruction": "a", "output": "b", "history": [["q"]]}, "row 1 .* holds no history"),
        ({"instruction": "a", "output": "b", "history": "q"}, "row 1 .* holds no history"),
        ({"input_ids": [5, "6"]}, "row 1 of column 'input_ids' holds no tokens: '6'"),
        ({"input_ids": [5, -6]}, "row 1 of column 'input_ids' holds no tokens: '-6'"),
        ({"input_ids": [5, 6], "labels": [5]}, "different numbers of tokens, labels, mask"),
        ({"input_ids": [7, 5, 6], "labels": [3, 5, 9], "attention_mask": [0, 1, 1]},
         "'labels' labels token 2 as no token of its place: '9'; expected 6, the token itself"),
        ({"messages": [{"role": "wizard", "content": "a"}, TELL]},
         "has an unknown role: 'wizard'; expected user, assistant"),
        ({"messages": "[{'role': 'user', 'content':"}, "row 1 of column 'messages' is no chat"),
        ({"question": "so?", "answer": True}, "'answer' is no text: 'True'.*--text-column NAME"),
        ({"prompt": [ASK], "input": "Now.", "completion": "b"}, "beside a prompt of turns"),
        ({"text": "a", "video": "a.mp4"}, r"videos beside the text.*: 'video'.*--text-column text"),
        ({"text": "a", "image": PICTURE, "scan": PICTURE}, "pictures in several columns"),
    ],
)  # fmt: skip
def test_rows_at_fault_are_named(row, message):
    with pytest.raises(DataError, match=message):
        read([row])


def test_pictures_are_left_out_where_the_text_is_named():
    _, note = one({"text": "a", "image": PICTURE}, text_column="text")
    assert note == "read 1 row as texts; columns not used: image"


# --- Labels -----------------------------------------------------------------------------------


def labelled(*labels, classes=None):
    frame = pd.DataFrame({"text": ["a"] * len(labels), "y": pd.Series(labels, dtype=object)})
    frame["y"] = pd.Categorical(frame["y"], classes) if classes else frame["y"]
    return read(frame, label_column="y")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["neg", "pos"], ["neg", "pos"]),
        ([0, 1, 10], ["0", "1", "10"]),
        ([0.0, 1.0, None], ["0", "1"]),
        (["1", "nan", "0", "<NA>"], ["1", "0"]),
        ([True, False], ["True", "False"]),
        (["1.0", "2"], ["1.0", "2"]),
        (["1", "two"], ["1", "two"]),
    ],
)
def test_classes(labels, names):
    data = labelled(*labels)
    assert [e.label for e in data.examples] == names
    assert (data.has_scores, len(data.classes)) == (False, len({*names}))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([f"c{i:02}" for i in range(16)], tuple(f"c{i:02}" for i in range(16))),
        ([10, 9, 2, 1], ("1", "2", "9", "10")),
        ([f"{i}.0" for i in range(11)], tuple(f"{i}.0" for i in range(11))),
        ([["b"], ["a"], ["c", "a"], ["d"]], ("a", "b", "c", "d")),
    ],
)
def test_classes_are_those_of_all_rows_whatever_is_drawn(labels, classes):
    frame = {"text": list("abcdefghijklmnop")[: len(labels)], "y": labels}
    data = read(pd.DataFrame(frame), label_column="y", examples=2)
    assert (len(data), data.classes) == (2, classes)
    lacking = [name for name in classes if name not in {e.label for e in data.examples}]
    said = [] if data.has_scores else [f"no example that was drawn is of {', '.join(lacking)}"]
    assert [note for note in data.notes if note.startswith("no example")] == said


@pytest.mark.parametrize(
    ("labels", "classes", "told"),
    [
        (["1.0", "0.0", "1"], ("0.0", "1"), "'1' and '1.0'"),
        ([True, 0, 1], ("0", "1"), "'1' and 'True'"),
        ([True, "true", "FALSE"], ("FALSE", "True"), "'True' and 'true'"),
        (["pos", " pos", "neg "], ("neg", "pos"), "'pos' and ' pos'"),
        ([["b "], ["b", "a"], ["a"]], ("a", "b"), "'b' and 'b '"),
        (["1_0", "10"], ("10", "1_0"), ""),
        (["2" * 20, "2" * 19 + "3"], ("2" * 20, "2" * 19 + "3"), ""),
    ],
)
def test_labels_that_mean_the_same_are_one_class(labels, classes, told):
    data = labelled(*labels)
    assert data.classes == classes
    assert {e.label for e in data.examples} <= {None, *classes}
    said = [part for note in data.notes for part in note.split("; ") if "are one" in part]
    assert said == ([f"labels that are one: {told}"] if told else [])


@pytest.mark.parametrize("labels", [[0, 0.5], [1.5, "2"], ["0.25", "1"], [-1.5, 2.0]])
def test_scores(labels):
    data = labelled(*labels)
    assert [e.scores for e in data.examples] == [(float(y),) for y in labels]
    assert (data.classes, data.examples[0].label) == (("y",), None)
    assert data.notes == ("read 2 rows as texts with scores",)


@pytest.mark.parametrize(
    ("labels", "classes", "scores"),
    [
        ([[1.0, 0.0], [1, 1]], ("0", "1"), [(1, 0), (1, 1)]),
        ([np.array([1, 0]), np.array([0, 1])], ("0", "1"), [(1, 0), (0, 1)]),
        (["[1, 0]", "[0, 0]"], ("0", "1"), [(1, 0), (0, 0)]),
        ([["b"], ["a", "b"]], ("a", "b"), [(0, 1), (1, 1)]),
        ([[], ["a", "b"]], ("a", "b"), [(0, 0), (1, 1)]),
        ([[2], [10, 2]], ("2", "10"), [(1, 0), (1, 1)]),
    ],
)
def test_labels_that_may_hold_together(labels, classes, scores):
    data = labelled(*labels)
    assert (data.classes, [e.scores for e in data.examples]) == (classes, scores)
    assert "with 2 labels that may hold together" in data.notes[0]


@pytest.mark.parametrize(
    "odd", [[0.25, 0.75], [float("nan"), 1.0], "[0.5, 0.5]", {"a": 1, "b": 0}, [[1, 0], [0, 1]]]
)
def test_labels_of_no_kind_are_refused(odd):
    with pytest.raises(DataError, match=r"row 2 of column 'y' gives shares of classes"):
        labelled([1, 0], odd)


def test_names_of_classes_keep_the_order_of_the_data():
    data = labelled("pos", "neg", classes=["pos", "odd", "neg"])
    assert data.classes == ("pos", "odd", "neg")


def test_numbers_of_named_classes_are_their_names(tmp_path):
    import datasets

    features = {"text": datasets.Value("string"), "y": datasets.ClassLabel(names=["bad", "good"])}
    held = datasets.Dataset.from_dict(
        {"text": ["a", "b"], "y": [1, 0]}, features=datasets.Features(features)
    )
    held.to_parquet(tmp_path / "a.parquet")
    for source in (held, str(tmp_path / "a.parquet")):
        data = read(source, label_column="y")
        assert ([e.label for e in data.examples], data.classes) == (
            ["good", "bad"],
            ("bad", "good"),
        )


def test_numbers_in_categories_are_names():
    data = labelled(0, 1, 2, None, classes=(2, 1, 0))
    assert ([e.label for e in data.examples], data.classes) == (["0", "1", "2"], ("2", "1", "0"))
    assert [e.label for e in labelled(30, 10, classes=(10, 20, 30)).examples] == ["30", "10"]
    assert [e.scores for e in labelled(0.5, 1.5, classes=(0.5, 1.5)).examples] == [(0.5,), (1.5,)]


def test_numbers_of_named_classes_in_lists_are_their_names():
    import datasets

    def scores(names, *labels):
        kind = datasets.Sequence(datasets.ClassLabel(names=names))
        features = datasets.Features({"text": datasets.Value("string"), "y": kind})
        rows = {"text": ["a"] * len(labels), "y": [*labels]}
        data = read(datasets.Dataset.from_dict(rows, features=features), label_column="y")
        return data.classes, [e.scores for e in data.examples]

    assert scores(["no", "so"], [1, 0], [0, 1]) == (("no", "so"), [(1.0, 1.0), (1.0, 1.0)])
    assert scores(["no", "yes", "so"], [1, 0], [2])[1] == [(1.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    assert scores(["off", "on"], [1, 1, 0]) == (("0", "1", "2"), [(1.0, 1.0, 0.0)])  # Marks.


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[1, 0], 1], "row 2 of column 'y' has one label, other rows have lists"),
        ([["a"], ["a"]], "lists of one class alone"),
        ([[0, 1], [1, 0, 0]], "marks 2, 3 classes"),
        ([0.5, float("inf")], "row 2 of column 'y' has no finite label"),
        (["[0 1]", "[1 0]"], r"row 1 of column 'y' is a list, .* cannot be read: '\[0 1\]'"),
        (["2", "0,5"], "row 2 of column 'y' is a list, or a number with a comma"),
        ([1, 0.5, "n/a"], "row 3 of column 'y' is no number among scores: 'n/a'"),
    ],
)
def test_labels_of_no_kind(labels, message):
    with pytest.raises(DataError, match=message):
        labelled(*labels)


def test_numbers_are_the_texts_of_questions_and_answers():
    rows = [
        {"instruction": "2+2?", "input": 7, "output": 4},
        {"instruction": "Pi?", "input": "", "output": 3.5},
        {"instruction": "Who?", "input": float("nan"), "output": "nobody"},
    ]
    data = read(rows)
    assert [(e.prompt, e.text) for e in data.examples] == [
        ("2+2?\n7", "4"), ("Pi?", "3.5"), ("Who?", "nobody"),
    ]  # fmt: skip
    assert "; 2 rows with a number for a text" in data.notes[0]
    assert [e.text for e in read([{"q": "a", "n": 4}], text_column="n", prompt_column="q").examples]
    assert "number for" not in read([{"instruction": "a", "output": "b"}]).notes[0]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"Instruction": "a", "Input": "b", "OUTPUT": "c"}, "Alpaca instructions"),
        ({"Conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
         "ShareGPT chats"),
        ({"Prompt": "a", "Chosen": "b", "Rejected": "c"}, "preference pairs"),
        ({"Input_IDs": [3, 4]}, "tokens"),
        ({"Text": "a", "other": "b"}, "texts"),
    ],
)  # fmt: skip
def test_names_of_columns_are_known_in_capitals_too(row, kind):
    small = read([{name.lower(): value for name, value in row.items()}])
    data = read([row])
    assert data.examples == small.examples
    assert data.columns == {
        role: n for role, s in small.columns.items() for n in row if n.lower() == s
    }
    told = "; ".join(data.notes)
    assert f"as {kind}" in told
    assert set(data.columns.values()) <= {*row}


def test_columns_that_differ_by_case_alone_stay_apart():
    data = read([{"text": "a", "Text": "b"}])
    assert [e.text for e in data.examples] == ["a"]
    with pytest.raises(DataError, match=r"which column is the text.*'Title, title'"):
        read([{"Title": "a", "title": "b"}])
    with pytest.raises(DataError, match=r"which column is the text.*'Title, Body2'"):
        read([{"Title": "a", "Body2": "b"}])
    assert read([{"Title": "a", "Note": "b"}], text_column="Title").columns == {"text": "Title"}
