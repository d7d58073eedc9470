"""The time of adapters alone: each shape run once, added up by block."""

import numpy as np
import pytest
import torch

from layerwise.capture import adapters
from layerwise.capture.adapters import adapter_seconds
from layerwise.capture.stats import AdaptedModule

CPU = torch.device("cpu")


def module(row, wide=4, out=6):
    return AdaptedModule("m", row, source=0, in_features=wide, out_features=out)


def measured(modules, blocks, *, tokens=5, rank=2, dtype=torch.float32):
    return adapter_seconds(
        modules, blocks=blocks, tokens=tokens, rank=rank, device=CPU, dtype=dtype
    )


def test_modules_of_one_shape_take_the_same_and_blocks_their_sum():
    found = measured([module(0), module(0), module(2), module(3, out=8)], 4)
    assert found[0] == 2 * found[2] > 0.0
    assert found[1] == 0.0
    assert found[3] > 0.0


def test_more_tokens_take_longer():
    few, many = (measured([module(0, 256, 256)], 1, tokens=t)[0] for t in (1, 4096))
    assert many > 2 * few


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_timed_is_lora_with_all_its_gradients(monkeypatch, dtype):
    seen = []
    gradients = torch.autograd.grad

    def heard(whole, inputs, *rest):
        found = gradients(whole, inputs, *rest)
        seen.append((whole.dtype, tuple(whole.shape), [tuple(g.shape) for g in found]))
        return found

    monkeypatch.setattr(torch.autograd, "grad", heard)
    measured([module(0)], 1, dtype=dtype)
    shapes = [(5, 4), (5, 6), (2, 4), (6, 2)]
    assert seen == [(dtype, (5, 6), shapes)] * (adapters.REPEATS + 1)


def test_no_random_number_is_drawn_and_no_gradient_mode_changed():
    before = torch.get_rng_state()
    with torch.no_grad():
        found = measured([module(0)], 1)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.isfinite(found).all()
