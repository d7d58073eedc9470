"""Lines of runs: whole or absent, however a process ends, and however many write."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from layerwise.errors import OutputError, SchemaError
from layerwise.evidence.lines import SetRun, append_run, by_pair, read_runs
from layerwise.evidence.trial import Trial

TRIAL = Trial(
    seed=0,
    learning_rate=1e-3,
    loss_before=3.0,
    loss_after=2.5,
    seconds_per_step=0.1,
    peak_memory_bytes=1,
    trainable_parameters=10,
    steps=4,
    tokens=100,
)
RUN = SetRun("tiny", "random", (1, 4), 0, 8, 4, 16, TRIAL, "cpu", "2026-01-01T00:00:00+00:00")

WRITER = """
import sys
from pathlib import Path
from dataclasses import replace
sys.path.insert(0, sys.argv[2])
from test_lines import RUN
from layerwise.evidence.lines import append_run
for i in range(int(sys.argv[3])):
    append_run(Path(sys.argv[1]), replace(RUN, seed=i, device=sys.argv[4]))
"""


def written(path, count, name, **options):
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", WRITER, str(path), folder, str(count), name]
    return subprocess.Popen(command, **options)


def test_what_is_appended_is_read(tmp_path):
    path = tmp_path / "deep" / "runs.jsonl"
    assert read_runs(path) == ()
    others = replace(RUN, pair="other"), replace(RUN, seed=1)
    for run in (RUN, *others):
        append_run(path, run)
    assert read_runs(path) == (RUN, *others)
    assert by_pair(read_runs(path)) == {"tiny": [RUN, others[1]], "other": [others[0]]}
    assert RUN.key == ("tiny", "random", (1, 4), 0, 1e-3)


def test_a_part_longer_than_a_look_is_cut_off(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b"x" * 10_000)
    append_run(path, RUN)
    whole = path.read_bytes()
    path.write_bytes(whole + b"y" * 4096)
    append_run(path, RUN)
    assert path.read_bytes() == 2 * whole


def test_a_half_written_line_is_left_out_and_then_cut_off(tmp_path):
    path = tmp_path / "runs.jsonl"
    append_run(path, RUN)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    assert read_runs(path) == (RUN,)
    append_run(path, replace(RUN, seed=1))
    assert [run.seed for run in read_runs(path)] == [0, 1]
    assert path.read_bytes().startswith(whole)


@pytest.mark.slow  # Two interpreters that import torch.
def test_two_writers_and_a_killed_one_leave_whole_lines(tmp_path):
    path = tmp_path / "runs.jsonl"
    killed, other = written(path, 100_000, "killed"), written(path, 50, "other")
    while not path.exists() or b"killed" not in path.read_bytes():
        os.sched_yield()
    for i in range(50):
        append_run(path, replace(RUN, seed=i, device="here"))
    killed.send_signal(signal.SIGKILL)
    assert other.wait(timeout=120) == 0
    killed.wait()
    append_run(path, replace(RUN, device="last"))
    found = [(run.device, run.seed) for run in read_runs(path) if run.device != "killed"]
    assert sorted(found[:-1]) == [(n, i) for n in ("here", "other") for i in range(50)]
    assert found[-1] == ("last", 0)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{not json}", "unreadable run: '.*runs.jsonl, line 2'; expected a JSON object"),
        (b"[1, 2]", "line that is no run: '.*line 2'; expected layerwise/set-run/1"),
        (b'{"schema": "layerwise/card/1"}', "line that is no run: '.*line 2'"),
        (b'{"schema": "layerwise/set-run/1", "pair": "x"}', "malformed record .*line 2"),
    ],
)
def test_a_line_of_something_else_is_named(tmp_path, line, told):
    path = tmp_path / "runs.jsonl"
    append_run(path, RUN)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(SchemaError, match=told):
        read_runs(path)


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write \(.*\): .*file/runs.jsonl"):
        append_run(tmp_path / "file" / "runs.jsonl", RUN)
