"""Time on the device that does the work: wall clock on a CPU, stream events on CUDA."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Clock:
    """Marks moments without waiting for the device, and reads them later.

    Attributes:
        mark: This moment.
        seconds: Seconds from the first mark to the second; waits for the device if need be.
    """

    mark: Callable[[], Any]
    seconds: Callable[[Any, Any], float]


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    end.synchronize()
    return start.elapsed_time(end) / 1000


def clock_for(device: torch.device) -> Clock:
    """Return the clock that times work on `device`: where it runs, not where it is queued."""
    if device.type == "cuda":
        return Clock(mark=_event, seconds=_between)
    return Clock(mark=time.perf_counter, seconds=lambda start, end: end - start)
