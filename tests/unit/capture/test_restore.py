"""A model that was changed for a while is what it was, and so are random generators."""

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from layerwise.capture.restore import drawn_by, modules_kept, trainable
from layerwise.compat.transformers import checkpoint_blocks
from layerwise.tuning.lora import placed_on


@pytest.mark.parametrize("fails", [False, True])
def test_flags_gradients_and_forward_come_back(tuning, fails):
    model = tuning.loaded("llama").model
    model.lm_head.weight.requires_grad_(False)
    wanted = [p.requires_grad for p in model.parameters()]
    with (
        pytest.raises(RuntimeError) if fails else nullcontext(),
        trainable(model, {"model.norm.weight"}),
    ):
        inside = {n for n, p in model.named_parameters() if p.requires_grad}
        model.train()
        checkpoint_blocks(model)
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
    with trainable(model, ()):
        model.forward = None
    assert vars(model)["forward"] is own


def test_checkpointing_that_was_on_stays_on(tuning):
    model = tuning.loaded("llama").model
    checkpoint_blocks(model)
    with trainable(model, ()):
        for module in model.modules():
            module.gradient_checkpointing = False
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


@pytest.fixture
def model(tiny_text):
    return tiny_text.model("llama")


def seen(model):
    """All that a user could notice: names, hooks, flags, attributes and configuration."""
    modules = {
        name: (type(m), sorted(vars(m)), m.training, len(m._forward_hooks))
        for name, m in model.named_modules()
    }
    return modules, [p.requires_grad for p in model.parameters()], dict(vars(model.config))


def test_adapters_and_everything_they_bring_are_gone(tuning):
    loaded = tuning.loaded()
    model = loaded.model
    before, values = seen(model), [p.detach().clone() for p in model.parameters()]
    with modules_kept(model):
        adapted = placed_on(loaded).apply(model)
        assert any("lora_A" in name for name, _ in model.named_modules())
        model.config.use_cache = not model.config.use_cache
        adapted.train()
    assert seen(model) == before
    assert not hasattr(model, "peft_config")
    assert all(torch.equal(a, b) for a, b in zip(values, model.parameters(), strict=True))


def test_hooks_gradients_and_flags_are_taken_back_after_a_failure(model):
    before = seen(model)

    def fail():
        with modules_kept(model):
            model.register_forward_hook(lambda *_: None)
            for parameter in model.parameters():
                parameter.requires_grad_(False)
                parameter.grad = torch.zeros_like(parameter)
            message = "on purpose"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert seen(model) == before
    assert all(p.grad is None for p in model.parameters())


def test_a_module_without_a_configuration_can_be_lent():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with modules_kept(model):
        model[0] = nn.Linear(2, 3)
        model.extra = 1
    assert model[0].out_features == 2
    assert not hasattr(model, "extra")
