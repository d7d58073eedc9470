"""A model lent out comes back as it was."""

import pytest
import torch
from torch import nn

from layerwise.measure.borrowed import borrowed
from layerwise.tuning.lora import placed_on


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
    with borrowed(model):
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
        with borrowed(model):
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
    with borrowed(model):
        model[0] = nn.Linear(2, 3)
        model.extra = 1
    assert model[0].out_features == 2
    assert not hasattr(model, "extra")
