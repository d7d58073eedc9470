"""Ctrl-C and SIGTERM: exit status 130, one line, and no file half written."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

# Whether a process answers signals yet is read where Linux tells it.
pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")


def started(model, data, out):
    """A pass too long to end by itself."""
    options = ["--text-column", "text", "--examples", "40000", "--batch-size", "1"]
    command = [sys.executable, "-m", "layerwise", "card", model, data, *options, "--out", out]
    return subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def answers(pid, number):
    """Whether the process has a handler of its own for the signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.fixture(scope="module")
def long_text(text_file, tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "long.jsonl"
    file.write_text(text_file.read_text() * 2000)
    return file


@pytest.mark.parametrize(
    ("number", "after"),
    [
        (signal.SIGINT, 0.2),
        pytest.param(signal.SIGTERM, 1.0, marks=pytest.mark.sweep),
        (signal.SIGTERM, 2.5),
        pytest.param(signal.SIGINT, 8.0, marks=pytest.mark.sweep),
    ],
    ids=str,
)
def test_interrupt_leaves_nothing_behind(model_folder, long_text, tmp_path, number, after):
    out = tmp_path / "out"
    with started(model_folder, long_text, out) as process:
        try:
            while not answers(process.pid, signal.SIGTERM):
                with suppress(subprocess.TimeoutExpired):
                    pytest.fail(f"ended by itself: {process.wait(timeout=0.05)}")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=after)
            process.send_signal(number)
            said, error = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130
    assert error == "layerwise: error: interrupted; no file was half written\n"
    assert said == ""
    assert list(tmp_path.iterdir()) == []
