"""Ctrl-C and SIGTERM on the command line: no temporary file stays, the exit status is 130."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Never

from layerwise.cli.output import complain
from layerwise.interrupts import INTERRUPTED, handled, interruptible

__all__ = ["INTERRUPTED", "MESSAGE", "importing", "interruptible"]

MESSAGE = "interrupted; no file was half written"


@contextmanager
def importing() -> Iterator[None]:
    """Inside, a signal ends the process at once, as nothing has been written yet.

    An exception in the middle of an import reaches no one: compiled modules abort on it, lazy ones
    report that a package is missing.
    """

    def leave(_number: int, _frame: FrameType | None) -> Never:
        complain(MESSAGE)
        os._exit(INTERRUPTED)

    with handled(leave):
        yield
