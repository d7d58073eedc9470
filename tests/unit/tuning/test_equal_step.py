"""What EqualStep refuses, reports, restores, and leaves as it was."""

import copy
import logging
import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

from layerwise.errors import BadInputError, NonFiniteError, UnknownNameError
from layerwise.tuning import norms
from layerwise.tuning.equal_step import EqualStep, StepRatio, match_tau

TAU = 1e-2
METHODS = ["copy", "exact", "sampled"]


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 10)).to(dtype)


def by_layer(model):
    return {str(i): list(layer.parameters()) for i, layer in enumerate(model)}


def backward(model, seed=0):
    chance = torch.Generator().manual_seed(seed)
    dtype = model[0].weight.dtype
    model.zero_grad()
    model(torch.randn(8, 20, generator=chance).to(dtype)).square().mean().backward()


def wrapped(method="auto", tau=TAU, model=None, **options):
    model = model or network()
    inner = AdamW(model.parameters(), **{"lr": 1e-3, "fused": True, **options})
    return model, EqualStep(inner, by_layer(model), tau, method=method)


def joined(model):
    return {n: torch.cat([p.detach().double().flatten() for p in g])
            for n, g in by_layer(model).items() if g}  # fmt: skip


def ratios(before, model):
    return {n: float((w - before[n]).norm() / before[n].norm()) for n, w in joined(model).items()}


# What it refuses.


@pytest.mark.parametrize("tau", [0, -1e-3, math.nan, math.inf])
def test_a_tau_that_is_no_step(tau):
    with pytest.raises(BadInputError, match=r"^tau: .*expected a positive number"):
        wrapped(tau=tau)


def test_an_unknown_method():
    with pytest.raises(UnknownNameError, match=r"unknown method: 'exakt'.*did you mean 'exact'"):
        wrapped("exakt")


def test_a_sample_of_nothing():
    model = network()
    with pytest.raises(BadInputError, match="sample: '0'; expected a whole number of at least 1"):
        EqualStep(AdamW(model.parameters()), by_layer(model), TAU, sample=0)


def test_a_parameter_in_two_groups():
    model = network()
    groups = {"a": [model[0].weight], **by_layer(model)}
    with pytest.raises(BadInputError, match=r"layer group 0: .*\(30, 20\).*each in one group"):
        EqualStep(AdamW(model.parameters()), groups, TAU)


def test_a_parameter_that_the_optimizer_does_not_have():
    model = network()
    with pytest.raises(BadInputError, match=r"layer group 2: .*\(10, 30\).*the optimizer holds"):
        EqualStep(AdamW(model[0].parameters()), by_layer(model), TAU)


def test_a_parameter_in_no_group():
    model = network()
    with pytest.raises(
        BadInputError, match="layer groups: '2 parameters of the optimizer are in none"
    ):
        EqualStep(AdamW(model.parameters()), {"0": list(model[0].parameters())}, TAU)


@pytest.mark.parametrize("method", ["exact", "sampled"])
def test_amsgrad_cannot_be_foreseen(method):
    with pytest.raises(BadInputError, match=r"amsgrad=True.*expected copy or auto"):
        wrapped(method, amsgrad=True)


def test_auto_copies_where_it_must_and_says_so(caplog):
    with caplog.at_level(logging.INFO):
        assert wrapped(amsgrad=True)[1].method == "copy"
    assert "keeps a copy of one layer group: AdamW has amsgrad=True" in caplog.text
    assert wrapped()[1].method == "exact"


def test_an_optimizer_that_needs_a_closure():
    model = network()
    with pytest.raises(BadInputError, match=r"optimizer: 'LBFGS'.*without a closure"):
        EqualStep(torch.optim.LBFGS(model.parameters()), by_layer(model), TAU)


def test_parameters_that_come_later():
    _, equal = wrapped()
    with pytest.raises(BadInputError, match=r"parameter group: '1 parameters'.*from the start"):
        equal.add_param_group({"params": [nn.Parameter(torch.ones(2))]})


# What it reports.


@pytest.mark.parametrize("method", METHODS)
def test_the_last_step_by_group(method):
    model, equal = wrapped(method)
    assert equal.steps == {}
    backward(model)
    before = joined(model)
    equal.step()
    assert list(equal.steps) == ["0", "2"]  # A layer without parameters is no group.
    for name, true in ratios(before, model).items():
        step = equal.steps[name]
        assert (step.asked, step.stored) == (TAU, None)
        assert step.achieved == pytest.approx(true, rel=1e-4)
        assert step.natural != pytest.approx(TAU, rel=1e-2)


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


def test_tau_to_match_is_the_median_of_what_moved():
    steps = [
        {"a": StepRatio(0.1, achieved=0.1), "b": StepRatio(0.2, achieved=0.2)},
        {"a": StepRatio(0.4, achieved=0.4), "b": StepRatio(0.0, achieved=0.0)},
        {"a": StepRatio(None)},
    ]
    assert match_tau(steps) == pytest.approx(0.2)


def test_nothing_to_match():
    with pytest.raises(BadInputError, match="steps to match: 'no group moved'"):
        match_tau([{}, {"a": StepRatio(0.0, achieved=0.0)}])


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
    before = [p.detach().clone() for p in model.parameters()]
    equal.step()
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    assert equal.steps["0"] == StepRatio(natural=0.0, asked=TAU, achieved=0.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_rate_of_zero_makes_no_step_but_counts(method):
    model, equal = wrapped(method, lr=0.0)
    backward(model)
    before = [p.detach().clone() for p in model.parameters()]
    equal.step()
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
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


def test_frozen_parameters_and_foreign_modules_do_not_move():
    model = network()
    model[0].weight.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = {"0": [model[0].bias], "2": list(model[2].parameters())}
    equal = EqualStep(AdamW(trained, lr=1e-3), groups, TAU)
    before = model[0].weight.clone()
    backward(model)
    equal.step()
    assert torch.equal(before, model[0].weight)


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
    before = [p.detach().clone() for p in model[2].parameters()]
    with pytest.raises(NonFiniteError, match=r"step of layer group 2: .*expected finite"):
        equal.step()
    assert all(torch.equal(p, q) for p, q in zip(before, model[2].parameters(), strict=True))
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
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)
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


@pytest.mark.parametrize(
    ("saved", "mine", "message"),
    [
        (None, TAU, "'of a run that only measured'; expected one of equal steps"),
        (TAU, None, "'of equal steps'; expected one of a run that only measured"),
    ],
)
def test_the_state_of_another_kind_of_run(saved, mine, message):
    state = wrapped(tau=saved)[1].state_dict()
    with pytest.raises(BadInputError, match=f"optimizer state: {message}"):
        wrapped(tau=mine)[1].load_state_dict(state)


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


@pytest.mark.parametrize("steps", [1, 3])
def test_exact_agrees_with_the_definition(large, steps):
    (one, first), (two, second) = large("copy", steps), large("exact", steps)
    assert one == pytest.approx(1e-3, rel=1e-3)
    assert two == pytest.approx(1e-3, rel=1e-3)
    assert 1 - torch.cosine_similarity(first, second, dim=0) < 1e-5


@pytest.mark.parametrize("steps", [1, 4])
def test_sampled_is_within_half_a_percent(large, steps):
    ratio, _ = large("sampled", steps)
    assert ratio == pytest.approx(1e-3, rel=5e-3)
    assert ratio != pytest.approx(1e-3, rel=1e-6)  # It was a sample, after all.
