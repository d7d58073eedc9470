"""What a device cannot compute with is not asked of it."""

import torch

from layerwise.compat.torch import widened, widest


def test_float64_where_the_device_has_it():
    assert widest(torch.device("cpu")) == widest(torch.device("cuda:1")) == torch.float64
    assert widest(torch.device("mps")) == torch.float32
    assert widened(torch.ones(2)).dtype == torch.float64
