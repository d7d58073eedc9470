"""Norms that are right in the digits that float32 sums lose."""

import copy
import math

import numpy as np
import pytest
import torch

from layerwise.tuning import norms


@pytest.mark.slow
def test_the_norm_of_an_embedding_of_38_million_numbers():
    tensor = torch.rand(50257, 768, generator=torch.Generator().manual_seed(0)).add_(1.0)
    true = np.sqrt(np.square(tensor.numpy(), dtype=np.float64).sum())
    assert norms.norm([tensor]) == pytest.approx(true, rel=1e-6)


def test_the_norm_of_several_tensors_against_an_exact_sum():
    tensors = [torch.randn(300, 7), torch.randn(5) * 1e4, torch.randn(()), torch.empty(0, 3)]
    true = math.sqrt(math.fsum(x**2 for t in tensors for x in t.flatten().tolist()))
    assert norms.norm(tensors) == pytest.approx(true, rel=1e-6)


def test_of_nothing():
    assert norms.norm([]) == 0
    assert norms.Workspace().change([], []) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_norm_in_every_precision(dtype):
    tensor = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert norms.norm([tensor]) == pytest.approx(float(tensor.double().norm()), rel=1e-6)


def test_turned_and_gapped_tensors():
    tensor = torch.arange(12.0).view(3, 4)
    assert norms.norm([tensor.T]) == pytest.approx(float(tensor.norm()))
    assert norms.norm([tensor[:, ::2]]) == pytest.approx(float(tensor[:, ::2].norm()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_change_since_a_copy(dtype):
    tensors = [torch.randn(600, 500).to(dtype), torch.randn(7).to(dtype)]
    room = norms.Workspace()
    before, squares = room.copies(tensors)
    was = [t.double() for t in tensors]
    assert norms.total(squares) ** 0.5 == pytest.approx(norms.norm(tensors))
    for tensor in tensors:
        tensor.add_(torch.randn(tensor.shape).to(dtype), alpha=0.1)
    true = math.hypot(*((t.double() - w).norm() for t, w in zip(tensors, was, strict=True)))
    # Some processors' float32 products have few accumulators, so that a chunk is off by this much.
    assert room.change(before, tensors) == pytest.approx(true, rel=2e-5)


def test_room_is_used_again_and_grows():
    room, one = norms.Workspace(), torch.ones(10)
    (first,), _ = room.copies([one])
    (second,), _ = room.copies([2 * one])
    assert first.data_ptr() == second.data_ptr()
    larger, _ = room.copies([3 * torch.ones(50), 4 * torch.ones(5), torch.ones(2).double()])
    assert [c.tolist() for c in larger] == [[3.0] * 50, [4.0] * 5, [1.0] * 2]
    (again,), _ = room.copies([one])
    assert again.data_ptr() == larger[0].data_ptr()


def test_a_copy_of_room_starts_empty():
    room = norms.Workspace()
    room.copies([torch.ones(10)])
    assert vars(copy.deepcopy(room)) == vars(norms.Workspace())
