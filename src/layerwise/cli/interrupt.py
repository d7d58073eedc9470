"""Ctrl-C and SIGTERM: clean-up runs, no temporary file stays, and the exit status is 130."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Never

from layerwise.cli.output import complain

__all__ = ["INTERRUPTED", "MESSAGE", "importing", "interruptible"]

INTERRUPTED = 130
MESSAGE = "interrupted; no file was half written"


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, a signal ends work as an exception would; whether one came.

    The exception is SystemExit, which libraries let pass more often than KeyboardInterrupt. Some
    turn even that into an error of their own, so whoever catches an error should ask first.
    """
    came: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> Never:
        came.append(number)
        raise SystemExit(INTERRUPTED)

    with _handled(stop):
        yield lambda: bool(came)


@contextmanager
def importing() -> Iterator[None]:
    """Inside, a signal ends the process at once, as nothing has been written yet.

    An exception in the middle of an import reaches no one: compiled modules abort on it, lazy ones
    report that a package is missing.
    """

    def leave(_number: int, _frame: FrameType | None) -> Never:
        complain(MESSAGE)
        os._exit(INTERRUPTED)

    with _handled(leave):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], Never]) -> Iterator[None]:
    """Inside, `handler` gets both signals, save one that the caller's shell has set to ignore."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
