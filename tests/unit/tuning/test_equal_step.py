"""EqualStep: its reports, a restored state, and all that it leaves as it was."""

import copy
import logging
import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

from layerwise.errors import NonFiniteError
from layerwise.tuning import norms
from layerwise.tuning.equal_step import EqualStep, StepRatio
from support.tuning import by_layer, network, wrapped

TAU = 1e-2
METHODS = ["copy", "exact", "sampled"]


def backward(model, seed=0):
    chance = torch.Generator().manual_seed(seed)
    dtype = model[0].weight.dtype
    model.zero_grad()
    model(torch.randn(8, 20, generator=chance).to(dtype)).square().mean().backward()


def joined(model):
    return {n: torch.cat([p.detach().double().flatten() for p in g])
            for n, g in by_layer(model).items() if g}  # fmt: skip


def ratios(before, model):
    return {n: float((w - before[n]).norm() / before[n].norm()) for n, w in joined(model).items()}


def copies(model):
    return [p.detach().clone() for p in model.parameters()]


def same(before, model):
    return all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))


def test_auto_copies_where_it_must_and_says_so(caplog):
    with caplog.at_level(logging.INFO):
        assert wrapped(amsgrad=True)[1].method == "copy"
    assert "keeps a copy of one layer group: AdamW has amsgrad=True" in caplog.text
    assert wrapped()[1].method == "exact"


# What it reports.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_reports_what_was_stored(method, dtype):
    model, equal = wrapped(method, tau=1e-4, model=network(dtype))
    for seed in range(2):
        backward(model, seed)
        before = joined(model)
        equal.step()
        for name, true in ratios(before, model).items():
            assert equal.steps[name].asked == 1e-4
            assert equal.steps[name].stored == pytest.approx(true, rel=1e-4, abs=1e-12)
    assert any(abs(step.stored / 1e-4 - 1) > 0.05 for step in equal.steps.values())


def test_stored_steps_are_compared_only_while_measuring():
    model, equal = wrapped("exact", model=network(torch.bfloat16))
    equal.measuring = False
    backward(model)
    equal.step()
    assert {step.stored for step in equal.steps.values()} == {None}
    assert {step.asked for step in equal.steps.values()} == {TAU}


# What it leaves alone.


@pytest.mark.parametrize("method", METHODS)
def test_a_group_of_zeros_moves_as_the_optimizer_says(method):
    model = network()
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    other = copy.deepcopy(model)
    _, equal = wrapped(method, model=model)
    plain = AdamW(other.parameters(), lr=1e-3, fused=True)
    for one in (model, other):
        one(torch.ones(3, 20)).sum().backward()
    equal.step()
    plain.step()
    assert torch.equal(model[2].weight, other[2].weight)
    assert model[2].weight.any()
    assert equal.steps["2"] == StepRatio(natural=None, asked=TAU)


def test_a_zero_gradient_makes_no_step():
    model = network()
    equal = EqualStep(SGD(model.parameters(), lr=0.1, momentum=0.9), by_layer(model), TAU)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = copies(model)
    equal.step()
    assert same(before, model)
    assert equal.steps["0"] == StepRatio(natural=0.0, asked=TAU, achieved=0.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_rate_of_zero_makes_no_step_but_counts(method):
    model, equal = wrapped(method, lr=0.0)
    backward(model)
    before = copies(model)
    equal.step()
    assert same(before, model)
    assert {float(s["step"]) for s in equal.state.values()} == {1.0}
    assert {step.achieved for step in equal.steps.values()} == {0.0}


@pytest.mark.parametrize("method", METHODS)
def test_a_common_rate_cancels_out(method):
    found = []
    for rate in (1e-5, 1e-2):
        model, equal = wrapped(method, lr=rate)
        for seed in range(3):
            backward(model, seed)
            equal.step()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


class Counting(SGD):
    """Counts its steps in its parameter groups, as some optimizers do."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["made"] = group.get("made", 0) + 1
        return super().step(closure)


def test_an_optimizer_that_counts_in_its_groups():
    model = network()
    inner = Counting(model.parameters(), lr=0.1)
    equal = EqualStep(inner, by_layer(model), TAU)
    for seed in range(3):
        backward(model, seed)
        equal.step()
    assert [group["made"] for group in inner.param_groups] == [3]
    assert inner.param_groups[0]["lr"] == 0.1


# Steps that cannot be.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_not_finite_names_the_group_and_does_not_move_it(method, bad):
    model, equal = wrapped(method)
    backward(model)
    model[2].weight.grad[3, 4] = bad
    before = copies(model[2])
    with pytest.raises(NonFiniteError, match=r"step of layer group 2: .*expected finite"):
        equal.step()
    assert same(before, model[2])
    assert len(equal.param_groups) == 1


# An optimizer like any other.


def test_a_closure_is_called_once_with_gradients_on():
    model, equal = wrapped()
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        backward(model)
        return 7.0

    assert equal.step(closure) == 7.0
    assert calls == [True]
    assert list(equal.steps) == ["0", "2"]  # A layer without parameters is no group.
    assert equal.steps["0"].achieved == pytest.approx(TAU)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o: LambdaLR(o, lambda step: step / 2),
        lambda o: CosineAnnealingLR(o, T_max=4),
        lambda o: OneCycleLR(o, max_lr=1e-3, total_steps=5),
    ],
)
def test_schedulers_set_the_rates_of_the_wrapped_optimizer(method, scheduler):
    model, equal = wrapped(method)
    plain = AdamW(network().parameters(), lr=1e-3)
    schedules = scheduler(equal), scheduler(plain)
    for seed in range(3):
        backward(model, seed)
        plain.step()
        before, rate = joined(model), equal.param_groups[0]["lr"]
        equal.step()
        assert equal.param_groups[0]["lr"] == rate
        wanted = TAU if rate else 0.0
        assert all(r == pytest.approx(wanted, rel=1e-4) for r in ratios(before, model).values())
        for schedule in schedules:
            schedule.step()
        assert equal.param_groups[0]["lr"] == plain.param_groups[0]["lr"]


def test_hooks_and_clearing():
    model, equal = wrapped()
    seen = []
    equal.register_step_pre_hook(lambda *_: seen.append("before"))
    equal.register_step_post_hook(lambda *_: seen.append("after"))
    backward(model)
    equal.step()
    assert seen == ["before", "after"]
    equal.zero_grad()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_scaler_unscales_before_the_step(method):
    model, equal = wrapped(method)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(model(torch.ones(4, 20)).square().mean()).backward()
    before = joined(model)
    scaler.step(equal)
    scaler.update()
    assert all(r == pytest.approx(TAU, rel=1e-4) for r in ratios(before, model).values())
    first = next(iter(equal.state.values()))["exp_avg"]
    assert torch.allclose(first, 0.1 * model[0].weight.grad)


@pytest.mark.parametrize("method", METHODS)
def test_a_deep_copy_goes_on_alike(method):
    model, equal = wrapped(method)
    LambdaLR(equal, lambda _: 1.0)  # It puts a closure on the optimizer.
    backward(model)
    equal.step()
    other, twin = copy.deepcopy((model, equal))
    for one, optimizer in ((model, equal), (other, twin)):
        backward(one, 1)
        optimizer.step()
    assert same(copies(model), other)
    assert model[0].weight is not other[0].weight


# Its state.


def test_the_state_is_the_wrapped_optimizers_and_fits_it():
    model, equal = wrapped()
    backward(model)
    equal.step()
    state = equal.state_dict()
    assert state["param_groups"] == equal.optimizer.state_dict()["param_groups"]
    assert state["equal_step"]["tau"] == TAU
    AdamW(network().parameters(), fused=True).load_state_dict(state)


def test_a_plain_optimizers_state_leaves_tau_as_it_is():
    _, equal = wrapped()
    equal.load_state_dict(AdamW(network().parameters(), lr=0.5).state_dict())
    assert equal.tau == TAU
    assert equal.param_groups[0]["lr"] == 0.5


def test_one_groups_copy_is_all_the_memory_it_keeps():
    model, equal = wrapped("copy")
    backward(model)
    equal.step()
    kept = {purpose: len(t) for (purpose, *_), t in vars(equal._room)["_made"].items()}
    largest = max(sum(p.numel() for p in g) for g in by_layer(model).values())
    assert kept.pop("copies") == largest
    assert sum(kept.values()) <= norms.chunk_size(model[0].weight)


# The methods agree.


@pytest.fixture(scope="module")
def large():
    """A function that makes 3 million parameters and one step of them, by a method."""

    def make(method, steps=1):
        torch.manual_seed(0)
        layer = nn.Linear(1536, 2048)
        inner = AdamW(layer.parameters(), lr=2e-5, fused=True)
        equal = EqualStep(inner, {"it": list(layer.parameters())}, 1e-3, method=method)
        chance = torch.Generator().manual_seed(1)
        for _ in range(steps):
            before = layer.weight.detach().clone(), layer.bias.detach().clone()
            for p in layer.parameters():
                p.grad = 1e-3 * torch.randn(p.shape, generator=chance)
            equal.step()
        moved = [p.detach().double() - w for p, w in zip(layer.parameters(), before, strict=True)]
        ratio = norms.norm(moved) / norms.norm(before)
        return ratio, torch.cat([m.flatten() for m in moved])

    return make


def test_exact_agrees_with_the_definition_and_a_sample_within_half_a_percent(large):
    (one, first), (two, second) = large("copy", 3), large("exact", 3)
    assert (one, two) == (pytest.approx(1e-3, rel=1e-3), pytest.approx(1e-3, rel=1e-3))
    assert 1 - torch.cosine_similarity(first, second, dim=0) < 1e-5
    for steps in (1, 4):
        ratio, _ = large("sampled", steps)
        assert ratio == pytest.approx(1e-3, rel=5e-3)
        assert ratio != pytest.approx(1e-3, rel=1e-6)  # It was a sample, after all.
