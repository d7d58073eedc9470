"""Memory and disk that run out, told from other faults by type and number, whoever raises them."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from layerwise.errors import LayerwiseError, OutOfMemoryError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that a device's memory, or the machine's, is used up."""
    torch = sys.modules.get("torch")  # Whatever of it is raised, it was imported before.
    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # torch has no type of its own for what a CPU's allocator raises.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


@contextmanager
def enough_memory(hint: str) -> Iterator[None]:
    """Let running out of memory inside be an error of one line that says what to type.

    Raises:
        OutOfMemoryError: Memory ran out.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, LayerwiseError) or not out_of_memory(error):
            raise
        message = "out of memory"
        raise OutOfMemoryError(message, hint=hint) from error


def gradients_on() -> AbstractContextManager[Any]:
    """Let torch keep gradients inside, whatever mode the caller is in."""
    torch = sys.modules.get("torch")  # Where it was never imported, no mode is on.
    return nullcontext() if torch is None else torch.inference_mode(mode=False)


def disk_full(error: BaseException | None) -> bool:
    """Return whether `error`, or what it was raised from, says that a disk or a quota is full.

    Writers in Rust and torch's archive writer put the system's words into errors without a number.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(os.strerror(number) in str(error) for number in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def unwritable(error: BaseException) -> bool:
    """Return whether `error` says that a file cannot be written, and is no fault of the program.

    safetensors has a type of its own for that. torch's archive writer raises RuntimeError, told by
    the C++ file or stream that failed, or by the folder that is not there.
    """
    if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
        return True
    told = ("inline_container.cc", "iostream error", "Parent directory")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in told)
