"""What depends on the version of torch, and on what a device can compute with."""

import torch

from layerwise.shapes import Tensor


def widest(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device that has none: Apple's GPUs."""
    return torch.float32 if device.type == "mps" else torch.float64


def widened(tensor: Tensor) -> Tensor:
    """Return `tensor` in the widest precision of its device."""
    return tensor.to(widest(tensor.device))
