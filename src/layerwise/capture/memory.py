"""The largest memory in use while something ran."""

import sys
from pathlib import Path

import torch

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def reset_peak_memory(device: torch.device) -> bool:
    """Return whether the high-water mark of `device` could be set back to what is in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _CLEAR.write_text("5")  # proc(5): resets VmHWM
    except OSError:
        return False
    return True


def peak_memory_bytes(device: torch.device) -> int:
    """Return the high-water mark in bytes: allocated on CUDA, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return _largest_resident()


def _largest_resident() -> int:
    """Return the same where there is no /proc, in bytes."""
    try:
        import resource
    except ImportError:  # Windows has none.
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
