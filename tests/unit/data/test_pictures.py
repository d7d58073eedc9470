"""Pictures beside text: however they are held, in their places; and what is none."""

import base64
import io
import json
import os
import struct
import zlib

import pytest

from layerwise.data import read
from layerwise.data.pictures import PLACE
from layerwise.errors import DataError
from support.pictures import drawn


def stored(picture, kind="PNG"):
    """The bytes of a file."""
    into = io.BytesIO()
    picture.save(into, kind)
    return into.getvalue()


PICTURE = drawn(0)
BYTES = stored(PICTURE)
URI = "data:image/png;base64," + base64.b64encode(BYTES).decode()
TELL = {"role": "assistant", "content": "a cat"}


def ask(*parts):
    return {"role": "user", "content": list(parts) if len(parts) > 1 else parts[0]}


def text(words):
    return {"type": "text", "text": words}


SHOW = {"type": "image"}


def one(row):
    (example,) = read([row]).examples
    return example


@pytest.mark.parametrize(
    "row",
    [
        {"image": PICTURE, "messages": [ask(SHOW, text("what?")), TELL]},
        {"image": BYTES, "messages": [ask(SHOW, text("what?")), TELL]},
        {"image": {"bytes": BYTES, "path": None}, "messages": [ask("what?"), TELL]},
        {"images": [PICTURE], "messages": [ask("<image>what?"), TELL]},
        {"image": URI, "prompt": "what?", "completion": "a cat"},
        {"scan": BYTES, "question": "what?", "answer": "a cat"},
        {"messages": [ask({"type": "image_url", "image_url": {"url": URI}}, text("what?")), TELL]},
        {"messages": [ask({"type": "image", "image": PICTURE}, text("what?")), TELL]},
        {"messages": [ask({"type": "image", "base64": URI}, text("what?")), TELL]},
        {"conversations": [{"from": "human", "value": "<image>what?"},
                           {"from": "gpt", "value": "a cat"}], "images": [BYTES]},
    ],
)  # fmt: skip
def test_a_picture_is_the_same_however_it_is_held(row):
    found = one(row)
    assert [turn["content"] for turn in found.messages] == [f"{PLACE}what?", "a cat"]
    (picture,) = found.pictures
    assert picture.image().tobytes() == PICTURE.tobytes()


def test_pictures_stand_in_their_places_and_else_before_the_first_question():
    second = drawn(1)
    row = {"images": [PICTURE, second], "messages": [ask("a "), TELL, ask("b"), TELL]}
    found = one(row)
    assert found.messages[0]["content"] == f"{PLACE}{PLACE}a "
    told = [ask(text("a "), SHOW), TELL, ask({"type": "image", "image": second}, text("b")), TELL]
    placed = one({"images": [PICTURE], "messages": told})
    assert [m["content"] for m in placed.messages[::2]] == [f"a {PLACE}", f"{PLACE}b"]
    digests = [[p.digest() for p in example.pictures] for example in (found, placed)]
    assert digests[0] == digests[1]


def test_a_text_beside_a_picture_is_what_is_said_of_it():
    data = read([{"image": PICTURE, "text": "a cat"}])
    (example,) = data.examples
    assert [turn["content"] for turn in example.messages] == [PLACE, "a cat"]
    assert "pictures: 1, before the first question" in data.notes[0]


def test_files_are_found_beside_the_data(tmp_path, monkeypatch):
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "a.png").write_bytes(BYTES)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"image": "shown/a.png", "prompt": "what?", "completion": "b"}))
    monkeypatch.chdir("/")
    (example,) = read(str(rows)).examples
    assert example.pictures[0].image().size == PICTURE.size


def test_the_hash_of_data_is_of_what_pictures_show():
    row = {"prompt": "what?", "completion": "a cat"}
    hashes = [read([{**row, "image": held}]).sha256 for held in (PICTURE, BYTES, drawn(1))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_rows_without_a_picture_stay_as_they_are():
    data = read([{"image": None, "prompt": "a", "completion": "b"},
                 {"image": BYTES, "prompt": "a", "completion": "b"}])  # fmt: skip
    assert [len(example.pictures) for example in data.examples] == [0, 1]
    assert data.has_pictures


def dds_of_no_kind():
    """A file whose points are of a kind that there is not: Pillow raises no OSError."""
    held = bytearray(stored(PICTURE, "DDS"))
    held[80:84] = struct.pack("<I", 24)
    return bytes(held)


def huge():
    """A file of some bytes that says it is of 3.6 thousand million points."""

    def chunk(kind, held):
        return (
            struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))
        )

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "https://a.org/b.png"}, "'image' names a picture elsewhere, which is not f"),
        ({"image": "none.png"}, "row 1 of column 'image' names no file: 'none.png'"),
        ({"image": base64.b64encode(BYTES).decode()}, "names no file"),  # Too long for a name.
        ({"image": os.devnull}, "names no file"),  # As a pipe, which would be waited for.
        ({"image": BYTES[:70]}, "row 1 of column 'image' holds a picture that cannot be read"),
        ({"image": b"no picture"}, "holds a picture that cannot be read"),
        ({"image": dds_of_no_kind()}, "cannot be read .*Unknown pixel format"),
        ({"image": huge()}, "cannot be read .*exceeds limit"),
        ({"image": "data:image/png;base64,@@"}, "holds a picture that is no base64"),
        ({"images": [BYTES, 7]}, "'images' holds no picture: 'int'"),
        ({"images": [BYTES], "messages": [ask(SHOW, SHOW, text("a")), TELL]},
         "'images' has not as many pictures as its chat has places for them: '1'; expected 2"),
        ({"messages": [ask(SHOW, text("a")), TELL]}, "'messages' has not as many pictures"),
        ({"image": BYTES, "input_ids": [1, 2]}, "'image' stands beside tokens"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_told(row, message):
    text = {} if {"messages", "input_ids"} & row.keys() else {"prompt": "a", "completion": "b"}
    with pytest.raises(DataError, match=message):
        read([text | row])
