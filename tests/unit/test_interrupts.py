"""Signals that end work as an exception would."""

import os
import signal
import threading

import pytest

from layerwise.interrupts import interruptible

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def send(number):
    os.kill(os.getpid(), number)


@BOTH
def test_a_signal_ends_work_as_an_exception_would(number):
    cleaned = []
    with interruptible() as came:
        assert not came()
        try:
            with pytest.raises(SystemExit, match="130"):
                send(number)
        finally:
            cleaned.append(True)
        assert came()
    assert cleaned


@BOTH
def test_handlers_are_as_before_afterwards(number):
    before = signal.getsignal(number)
    with interruptible():
        assert signal.getsignal(number) != before
    assert signal.getsignal(number) == before


def test_a_signal_that_the_shell_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible() as came:
            send(signal.SIGINT)
        assert not came()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_leaves_handlers_as_they_are():
    found = []

    def look():
        with interruptible() as came:
            found.extend([signal.getsignal(signal.SIGTERM), came()])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM), False]
