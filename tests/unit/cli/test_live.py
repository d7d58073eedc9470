import io
import itertools
import logging
import re

import pytest
from rich.console import Console

from layerwise.cli.live import _line, _parts, _RunHistory, live, step_lines
from layerwise.report.renderers.terminal import Room


def entry(step, **more):
    ratios = {f"h.{n}": 1e-4 * 2**n for n in range(6)} | {"rest": 5e-5}
    return {
        "step": step,
        "loss": 4.0 - 0.1 * step,
        "learning_rate": 2e-5,
        "grad_norm": 1.25,
        "seconds": 0.5 * step,
        "step_ratio": ratios,
        **more,
    }


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "layerwise.cli.live")
    return lambda: [record.getMessage() for record in caplog.records]


FULL = (
    "step 3/60, loss 3.7, eval loss 3.5, learning rate 2e-05, gradient norm 1.25, "
    "step size 0.0004 (5e-05 to 0.0032)"
)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (entry(3, eval_loss=3.5), FULL),
        ({"step": 0, "eval_loss": 3.5}, "step 0/60, eval loss 3.5"),
        ({"step": 1, "loss": 2.0, "step_ratio": {}}, "step 1/60, loss 2"),
        ({"step": 1, "loss": float("nan")}, "step 1/60, loss nan"),
    ],
)
def test_a_line_has_all_that_a_step_says_and_nothing_else(said, line):
    assert _line(said, 60) == line


def spoken(said, *, seconds):
    """The steps of 60 that a line is said of, where each takes `seconds`."""
    ticks = itertools.count()
    listener = step_lines(60, clock=lambda: next(ticks) * seconds)
    for step in range(1, 61):
        listener(entry(step))
    return [int(re.match(r"step (\d+)/", line)[1]) for line in said()]


@pytest.mark.parametrize(("seconds", "steps"), [(0.01, [1, 60]), (1.0, [1, *range(6, 61, 6)])])
def test_a_line_at_either_end_and_a_tenth(said, seconds, steps):
    assert spoken(said, seconds=seconds) == steps


def test_lines_come_no_closer_than_every_few_seconds(said):
    steps = spoken(said, seconds=0.5)
    assert min(b - a for a, b in itertools.pairwise(steps[:-1])) * 0.5 >= 5


def test_a_slow_run_says_a_line_a_minute_besides_its_tenths(said):
    steps = spoken(said, seconds=20.0)
    assert max(b - a for a, b in itertools.pairwise(steps)) * 20 <= 60
    assert set(range(6, 61, 6)) <= set(steps)


def test_an_evaluation_is_always_said(said):
    listener = step_lines(1000, clock=lambda: 0.0)
    for step in (1, 2, 3):
        listener(entry(step))
    listener({"step": 3, "eval_loss": 2.5})
    assert [line.split(",")[0] for line in said()] == ["step 1/1000", "step 3/1000"]


@pytest.mark.parametrize("form", ["quiet", "json"])
def test_other_forms_say_nothing(said, capsys, form):
    with live(form, 2) as listener:
        listener(entry(1))
        listener(entry(2))
    assert said() == []
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_are_lines(said, capsys):
    with live("human", 2) as listener:
        listener(entry(2))
    assert said() == [_line(entry(2), 2)]
    assert capsys.readouterr().out == ""


class Terminal(io.StringIO):
    """Standard error on a terminal."""

    def isatty(self):
        return True


def test_a_terminal_gets_a_display_that_leaves_nothing_behind(monkeypatch, said):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with live("human", 10) as listener:
        for step in range(1, 11):
            listener(entry(step))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "10/10" in shown
    assert "loss 3, learning rate 2e-05, gradient norm 1.25" in shown
    assert screen.getvalue().rstrip().endswith("\x1b[2K")
    assert said() == []


def display(*entries, width=100, ascii_only=False):
    run = _RunHistory()
    for one in entries:
        run.hear(one)
    console = Console(file=io.StringIO(), width=width)
    for part in _parts("", run, Room(width, ascii_only=ascii_only)):
        console.print(part)
    return console.file.getvalue().splitlines()[1:]


def test_the_loss_falls_in_its_sparkline_and_the_last_evaluation_stays():
    first, _ = display(entry(1), {"step": 1, "eval_loss": 3.25}, entry(2), entry(3))
    assert first.startswith("█")
    assert first.split()[0].endswith("▁")
    assert "loss 3.7, eval loss 3.25" in first


def test_steps_are_a_row_over_depth_with_its_ends():
    _, steps = display(entry(1, step_ratio={str(n): 10 ** (n / 7 - 4) for n in range(8)}))
    assert steps == "▁▂▃▄▅▆▇█ step size by group, 0.0001 to 0.001, log scale"


def test_equal_steps_are_a_flat_row():
    _, steps = display(entry(1, step_ratio=dict.fromkeys("abc", 1e-4)))
    assert steps.startswith("▁▁▁ ")


def test_nothing_has_moved_yet():
    assert display(entry(1, step_ratio={"h.0": 0.0, "rest": 0.0}))[1] == "no group has moved yet"


def test_before_the_first_step_there_is_the_bar_alone():
    assert display() == []


@pytest.mark.parametrize("width", [20, 40])
def test_a_narrow_terminal_folds_no_line(width):
    lines = display(entry(1, step_ratio={str(n): 1e-4 * (n + 1) for n in range(90)}), width=width)
    assert len(lines) == 2
    assert max(map(len, lines)) <= width


def test_an_ascii_terminal_gets_ascii():
    assert all(line.isascii() for line in display(entry(1), entry(2), ascii_only=True))
