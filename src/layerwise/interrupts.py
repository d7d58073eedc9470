"""Ctrl-C and SIGTERM as an exception, so that clean-up runs."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Never

INTERRUPTED = 130
"""The exit status of a process that a signal ended."""


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

    with handled(stop):
        yield lambda: bool(came)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], Never]) -> Iterator[None]:
    """Inside, `handler` gets both signals, save one that the caller's shell has set to ignore.

    Nothing changes outside a process's main thread, which alone may say who gets them, and for a
    signal that a compiled library has taken.
    """
    is_main = threading.current_thread() is threading.main_thread()
    both = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    numbers = [n for n in both if signal.getsignal(n) not in {signal.SIG_IGN, None}]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
