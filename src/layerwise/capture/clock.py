"""Time on the device that does the work: wall clock on a CPU, stream events on CUDA."""

import time
from typing import Protocol

import torch

__all__ = ["Clock", "CpuClock", "CudaClock", "clock_for"]


class Clock(Protocol):
    """Marks moments without waiting for the device, and reads them later."""

    def mark(self) -> object:
        """This moment."""
        ...

    def seconds(self, start: object, end: object) -> float:
        """Seconds between two marks; waits for the device if need be."""
        ...


class CpuClock:
    """The process's monotonic clock."""

    def mark(self) -> float:
        """This moment in seconds."""
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """Seconds from `start` to `end`."""
        return end - start


class CudaClock:
    """Events on the current stream: work is timed where it runs, not where it is queued."""

    def mark(self) -> torch.cuda.Event:
        """An event recorded now."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Seconds between two events."""
        end.synchronize()
        return start.elapsed_time(end) / 1000


def clock_for(device: torch.device) -> Clock:
    """The clock that times work on `device`."""
    return CudaClock() if device.type == "cuda" else CpuClock()
