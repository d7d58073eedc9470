import os
import signal
import subprocess
import sys
import textwrap

import pytest

import layerwise
from layerwise.cli import main
from layerwise.cli.produce import MESSAGE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_importing_ends_the_process_at_once(number):
    code = f"""
    import os
    from layerwise.cli.produce import importing
    from layerwise.interrupts import interruptible
    with interruptible(), importing():
        try:
            os.kill(os.getpid(), {int(number)})
        finally:
            print("reached", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (130, "")
    assert said.stderr == f"layerwise: error: {MESSAGE}\n"


@pytest.mark.parametrize("turned_into", [ImportError, RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_interrupt_that_a_library_turns_into_an_error(
    turned_into, monkeypatch, tmp_path, capsys
):
    def card(*_args, **_options):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except SystemExit:
            raise turned_into from None

    monkeypatch.setattr(layerwise, "card", card)
    assert main(["card", "demo", "demo", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr() == ("", f"layerwise: error: {MESSAGE}\n")
