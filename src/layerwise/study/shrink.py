"""Memory that runs out: a micro-batch is halved, the accumulation doubled, three times at most.

The effective batch, and with it what a step is of, stays. A loss that compares the texts of a
batch (SimCSE, Barlow Twins) is another loss on half of them, so such a run is not made smaller: it
fails, and says what would help.
"""

import gc
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from layerwise.errors import OutOfMemoryError, one_line
from layerwise.files import canonical_json, remove, write_atomic
from layerwise.objectives import Objective
from layerwise.resources import out_of_memory

log = logging.getLogger(__name__)

MOST = 3
"""How often a micro-batch is halved."""

HALVINGS = "halvings.json"
"""The file in a run's folder that keeps how often, so that a run which is taken up goes on so."""

T = TypeVar("T")


class TooLargeError(OutOfMemoryError):
    """A run that does not fit in memory, and that cannot be made smaller."""


def within_memory(work: Callable[[int], T], folder: Path) -> T:
    """Return what `work` gives, called with how often its micro-batch is to be halved.

    It begins with none, or with what a process before found to be needed and left in the run's
    `folder`, and is called again with one more each time that memory runs out.

    Raises:
        TooLargeError: Memory ran out all the same.
    """
    halvings = _known(folder)
    while True:
        try:
            return work(halvings)
        except TooLargeError:
            remove(folder / HALVINGS, inside=folder)  # On a larger device it may fit as asked.
            raise
        except Exception as error:
            if not out_of_memory(error):
                raise
            said = one_line(error, limit=160)
        # Only now, with the error, are the tensors gone that its frames held.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        halvings += 1
        if halvings > MOST:
            remove(folder / HALVINGS, inside=folder)
            message = f"out of memory, with the micro-batch halved {MOST} times too ({said})"
            hint = "a smaller batch_size, gradient_checkpointing: true, or a larger device"
            raise TooLargeError(message, hint=hint)
        log.warning("out of memory (%s): the micro-batch is halved, %d of %d", said, halvings, MOST)
        write_atomic(folder / HALVINGS, canonical_json({"halvings": halvings}))


def _known(folder: Path) -> int:
    """Return how often a process before had halved; 0 without a file that can be read."""
    try:
        found = json.loads((folder / HALVINGS).read_text(encoding="utf-8"))["halvings"]
    except (OSError, ValueError, TypeError, KeyError):
        return 0
    return found if isinstance(found, int) and 0 <= found <= MOST else 0


def halved(size: int, times: int, *objectives: Objective) -> int:
    """Return a micro-batch of `size` texts halved so often, for losses that can be divided.

    Raises:
        TooLargeError: A loss would be another, or an odd number would have to be halved.
    """
    coupled = [objective.name for objective in objectives if objective.coupled]
    if times and coupled:
        message = f"out of memory: {coupled[0]} compares the texts of a batch, so it is not divided"
        hint = f"a batch_size below {size}, or gradient_checkpointing: true"
        raise TooLargeError(message, hint=hint)
    if size % 2**times:
        message = "out of memory: micro-batch that cannot be divided"
        hint = "gradient_checkpointing: true, or a larger device"
        raise TooLargeError(message, value=f"{size} by {2**times}", hint=hint)
    return size >> times
