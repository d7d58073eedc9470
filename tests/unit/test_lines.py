"""Lines of records: whole or absent, however a process ends, and however many write."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from layerwise.errors import OutputError, SchemaError
from layerwise.files import append_line, whole_lines
from layerwise.records import read_lines

SCHEMA = "layerwise/entry/1"
WRITER = """
import sys
from pathlib import Path
from layerwise.files import append_line
for number in range(int(sys.argv[2])):
    line = {"schema": "layerwise/entry/1", "number": number, "by": sys.argv[3]}
    append_line(Path(sys.argv[1]), line)
"""


@dataclass(frozen=True)
class Entry:
    number: int
    by: str = "here"


def add(path, number, by="here"):
    append_line(path, {"schema": SCHEMA, "number": number, "by": by})


def entries(path):
    return read_lines(path, Entry, schema=SCHEMA, what="entry")


def writing(path, count, by):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(count), by])


def test_what_is_appended_is_read(tmp_path):
    path = tmp_path / "deep" / "lines.jsonl"
    assert entries(path) == ()
    for number in range(3):
        add(path, number)
    assert entries(path) == (Entry(0), Entry(1), Entry(2))


@pytest.mark.parametrize("length", [50, 4096, 10_000])  # Files are looked at in parts.
def test_a_half_written_line_is_left_out_and_then_cut_off(tmp_path, length):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"x" * length)
    assert entries(path) == ()
    add(path, 0)
    whole = path.read_bytes()
    path.write_bytes(whole + b"y" * length)
    assert entries(path) == (Entry(0),)
    add(path, 1)
    assert entries(path) == (Entry(0), Entry(1))
    assert path.read_bytes().startswith(whole)


@pytest.mark.slow  # Two interpreters that import torch.
def test_two_writers_and_a_killed_one_leave_whole_lines(tmp_path):
    path = tmp_path / "lines.jsonl"
    killed, other = writing(path, 100_000, "killed"), writing(path, 50, "other")
    while not path.exists() or b"killed" not in path.read_bytes():
        os.sched_yield()
    for number in range(50):
        add(path, number)
    killed.send_signal(signal.SIGKILL)
    assert other.wait(timeout=120) == 0
    killed.wait()
    add(path, 0, "last")
    found = [(entry.by, entry.number) for entry in entries(path) if entry.by != "killed"]
    assert sorted(found[:-1]) == [(by, i) for by in ("here", "other") for i in range(50)]
    assert found[-1] == ("last", 0)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{not json}", "unreadable entry: '.*lines.jsonl, line 2'; expected a JSON object"),
        (b"[1, 2]", "line that is no entry: '.*line 2'; expected layerwise/entry/1"),
        (b'{"schema": "layerwise/card/1"}', "line that is no entry: '.*line 2'"),
        (b'{"schema": "layerwise/entry/1", "by": "x"}', "malformed record .*line 2"),
    ],
)
def test_a_line_of_something_else_is_named(tmp_path, line, told):
    path = tmp_path / "lines.jsonl"
    add(path, 0)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(SchemaError, match=told):
        entries(path)


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write \(.*\): .*file/lines.jsonl"):
        add(tmp_path / "file" / "lines.jsonl", 0)
    assert whole_lines(tmp_path / "none.jsonl") == []
