import logging

import pytest
from rich.text import Text

from layerwise.cli import output
from layerwise.errors import BadInputError


@pytest.fixture
def terminal(monkeypatch):
    """Standard error taken for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


def test_a_bar_shows_how_far_work_that_lasts_is(terminal, monkeypatch, capsys):
    monkeypatch.setattr(output, "PATIENCE", 0.0)
    assert list(output.progress_bar(iter("abc"), "Measuring", 3)) == ["a", "b", "c"]
    shown = capsys.readouterr()
    assert "Measuring" in shown.err
    assert "3/3" in shown.err
    assert shown.out == ""


def test_work_that_is_soon_over_shows_no_bar(terminal, monkeypatch, capsys):
    monkeypatch.setattr(output, "PATIENCE", float("inf"))
    assert list(output.progress_bar(range(3), "Measuring", 3)) == [0, 1, 2]
    assert "Measuring" not in capsys.readouterr().err


def test_a_bar_is_closed_when_work_fails(terminal, monkeypatch):
    monkeypatch.setattr(output, "PATIENCE", 0.0)
    bar = output.progress_bar(range(3), "Measuring", 3)
    next(bar)
    with pytest.raises(RuntimeError, match="planted"):
        bar.throw(RuntimeError("planted"))


def test_no_bar_where_standard_error_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(output, "PATIENCE", 0.0)
    with output.talk("human") as progress:
        assert list(progress("ab", "Measuring", 2)) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_what_is_said_of_data_waits_for_the_work_and_bad_input_is_one_line(capsys):
    log = logging.getLogger("layerwise.data.text")
    with pytest.raises(BadInputError, match="planted"), output.talk("human"):
        raise_planted(BadInputError, after=log.warning)
    assert capsys.readouterr().err == ""
    with output.talk("human") as progress:
        log.warning("a row left out")
        for _ in progress([1], "Measuring", 1):
            assert capsys.readouterr().err == "layerwise: a row left out\n"
    with output.talk("human"):
        log.warning("a row left out")
    assert capsys.readouterr().err == "layerwise: a row left out\n"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("human", "layerwise: info\nlayerwise: warning\nlayerwise: error\n"),
        ("json", "layerwise: warning\nlayerwise: error\n"),
        ("quiet", "layerwise: error\n"),
    ],
)
def test_log_goes_to_standard_error(form, said, capsys):
    log = logging.getLogger("layerwise.somewhere")
    with output.talk(form):
        log.debug("debug")
        log.info("info")
        log.warning("warning")
        log.error("error")
    assert capsys.readouterr() == ("", said)


def test_log_is_as_before_afterwards():
    logger = logging.getLogger("layerwise")
    before = logger.level, list(logger.handlers)
    with pytest.raises(RuntimeError, match="planted"), output.talk("human"):
        raise_planted()
    assert (logger.level, list(logger.handlers)) == before


def raise_planted(error=RuntimeError, after=str):
    after("a row left out")
    raise error("planted")


def test_log_records_are_one_line_each(capsys):
    with output.talk("human"):
        logging.getLogger("layerwise").warning("a\nb\x1b[2J %s", "c")
    assert capsys.readouterr().err == "layerwise: a b�[2J c\n"


def test_results_by_form(capsysbinary):
    for form in ("human", "json", "quiet"):
        output.say(form, human=["[table]", Text("[b]")], json=b'{"a": 1}\n')
    assert capsysbinary.readouterr().out == b'[table]\n[b]\n{"a": 1}\n'


def test_complaints_are_one_line(capsys):
    output.complain("a\nb")
    assert capsys.readouterr() == ("", "layerwise: error: a b\n")
