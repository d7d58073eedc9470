"""A lent model comes back as it was, and so do random generators."""

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from layerwise.tuning.untouched import drawn_by, lent


@pytest.mark.parametrize("fails", [False, True])
def test_flags_gradients_and_forward_come_back(tuning, fails):
    model = tuning.loaded("llama").model
    model.lm_head.weight.requires_grad_(False)
    wanted = [p.requires_grad for p in model.parameters()]
    with (
        pytest.raises(RuntimeError) if fails else nullcontext(),
        lent(model, {"model.norm.weight"}),
    ):
        inside = {n for n, p in model.named_parameters() if p.requires_grad}
        model.train()
        model.activation_checkpointing_enable()
        model.forward = lambda *_: None
        model._original_forward = 1
        model.model.norm.weight.grad = torch.ones_like(model.model.norm.weight)
        if fails:
            raise RuntimeError
    assert inside == {"model.norm.weight"}
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(p.grad is None for p in model.parameters())
    assert not {"forward", "_original_forward"} & vars(model).keys()
    assert not any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
    assert not model.training


def test_a_forward_of_its_own_is_kept(tuning):
    model = tuning.loaded("llama").model
    own = model.forward
    model.forward = own
    with lent(model, ()):
        model.forward = None
    assert vars(model)["forward"] is own


def test_checkpointing_that_was_on_stays_on(tuning):
    model = tuning.loaded("llama").model
    model.activation_checkpointing_enable()
    with lent(model, ()):
        model.activation_checkpointing_disable()
    assert model.model.layers[0].gradient_checkpointing


def test_draws_depend_on_seed_and_purpose_and_leave_no_trace():
    before = random.random(), np.random.random(), torch.rand(())  # noqa: S311, NPY002
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    expected = [random.random(), np.random.random(), torch.rand(()).item()]  # noqa: S311, NPY002
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    drawn = []
    for seed, purpose in ((1, "a"), (1, "a"), (2, "a"), (1, "b")):
        with drawn_by(seed, purpose):
            drawn.append(torch.rand(()).item())
            random.seed(5), np.random.seed(5)  # noqa: NPY002
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3
    assert [random.random(), np.random.random(), torch.rand(()).item()] == expected  # noqa: S311, NPY002
    assert len(before) == 3
