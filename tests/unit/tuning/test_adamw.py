"""The size of an AdamW step, known before it is made."""

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from layerwise.tuning import adamw
from layerwise.tuning.adamw import RUN, WHOLE, Sample


def trained(shapes, steps=3, dtype=torch.float32, **options):
    """An optimizer that has made `steps` steps, with gradients for the next."""
    chance = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(s, generator=chance).to(dtype)) for s in shapes]
    optimizer = AdamW(parameters, **{"lr": 1e-3, "fused": True, **options})
    for step in range(steps + 1):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=chance).to(dtype)
        if step < steps:
            optimizer.step()
    return optimizer


def made(optimizer):
    """(||W||, ||dW||) of the step, by making it."""
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    before = torch.cat([p.detach().double().flatten() for p in parameters])
    optimizer.step()
    after = torch.cat([p.detach().double().flatten() for p in parameters])
    return float(before.norm()), float((after - before).norm())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": 0},
        {"weight_decay": 0.0},
        {"weight_decay": 1.0, "lr": 0.1},
        {"eps": 1e-2},
        {"betas": (0.5, 0.7)},
        {"fused": False, "foreach": True},
        {"fused": False, "lr": torch.tensor(1e-3)},
        {"dtype": torch.float64},
        {"dtype": torch.bfloat16, "lr": 0.1},
        {"lr": 0.0},
    ],
    ids=str,
)
def test_foreseen_is_what_happens(options):
    optimizer = trained([(70, 50), (50,)], **options)
    found = adamw.foreseen(optimizer, optimizer.param_groups)
    weight, update = made(optimizer)
    assert found.weight == pytest.approx(weight, rel=1e-6)
    rounded = options.get("dtype") == torch.bfloat16
    assert found.update == pytest.approx(update, rel=1e-2 if rounded else 1e-4)
    assert found.error == 0


def test_looking_ahead_changes_nothing():
    optimizer = trained([(300, 200)])
    state = {k: v.clone() for s in optimizer.state_dict()["state"].values() for k, v in s.items()}
    weight = optimizer.param_groups[0]["params"][0].detach().clone()
    adamw.foreseen(optimizer, optimizer.param_groups, wanted=1000)
    assert torch.equal(weight, optimizer.param_groups[0]["params"][0])
    for name, value in optimizer.state_dict()["state"][0].items():
        assert torch.equal(value, state[name])


def test_parameter_groups_count_with_their_own_rates():
    optimizer = trained([(40, 30), (20, 10)])
    one, two = optimizer.param_groups[0]["params"]
    slow = {**optimizer.param_groups[0], "params": [one], "lr": 1e-5}
    still = {**optimizer.param_groups[0], "params": [two], "lr": 0.0}
    alone = adamw.foreseen(optimizer, [slow])
    both = adamw.foreseen(optimizer, [slow, still])
    assert both.update == pytest.approx(alone.update)
    assert both.weight > alone.weight


def test_channels_last_weights():
    weight = nn.Parameter(torch.randn(6, 5, 3, 3).to(memory_format=torch.channels_last))
    optimizer = AdamW([weight], lr=1e-3)
    weight.grad = torch.randn(6, 5, 3, 3)
    found = adamw.foreseen(optimizer, optimizer.param_groups)
    assert found.update == pytest.approx(made(optimizer)[1], rel=1e-4)


def test_samples_are_off_by_no_more_than_they_say_and_differ():
    optimizer = trained([(1501, 1024), (1024,)])
    whole = adamw.foreseen(optimizer, optimizer.param_groups)
    draws = [
        adamw.foreseen(optimizer, optimizer.param_groups, wanted=400_000, draw=d) for d in range(4)
    ]
    ratios = torch.tensor([d.update / d.weight for d in draws], dtype=torch.float64)
    for found, ratio in zip(draws, ratios.tolist(), strict=True):
        assert 0 < found.error <= adamw.TOLERANCE
        assert 0 < abs(ratio / (whole.update / whole.weight) - 1) < 3 * found.error
    assert float(ratios.std() / ratios.mean()) < 3 * draws[0].error
    assert len(set(ratios.tolist())) == 3  # Each third run is read: the fourth is the first again.


def test_rows_that_few_gradients_reach_are_read_whole():
    optimizer = trained([(2000, 1024)], steps=0, weight_decay=0.0)
    weight = optimizer.param_groups[0]["params"][0]
    weight.grad[torch.arange(2000) % 97 != 0] = 0.0
    found = adamw.foreseen(optimizer, optimizer.param_groups, wanted=400_000)
    assert found.error == 0
    assert found.update == pytest.approx(made(optimizer)[1], rel=1e-4)


def test_small_tensors_are_never_sampled():
    optimizer = trained([(WHOLE,), (2, WHOLE)])
    small, _ = optimizer.param_groups[0]["params"]
    with torch.no_grad():
        small[::RUN] = 1e6  # A sample of it would see too many of these, or none.
    sample = adamw.foreseen(optimizer, optimizer.param_groups, wanted=20_000)
    assert sample.weight == pytest.approx(adamw.foreseen(optimizer, optimizer.param_groups).weight)


def test_a_sample_visits_every_column():
    parameters = [torch.empty(1000, 768), torch.empty(9), torch.empty(500, 3328)]
    sample = Sample.of(parameters, 100_000, draw=10**18)
    entries = sum(p.numel() for p in parameters)
    assert entries / sample.step >= 100_000
    assert 0 <= sample.first < sample.step
    columns = torch.zeros(768, dtype=torch.bool)
    for start in range(RUN * sample.first, 768 * 1000 - RUN, RUN * sample.step):
        columns[torch.arange(start, start + RUN) % 768] = True
    assert columns.all()
    assert sample.step != 13  # It divides 3328.


def test_few_entries_are_all_read():
    assert Sample.of([torch.empty(100, 100)], 10_000, draw=3) == Sample(1, 0)


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (lambda p: AdamW(p, amsgrad=True), "amsgrad=True"),
        (lambda p: AdamW(p, maximize=True), "maximize=True"),
        (lambda p: AdamW(p, differentiable=True), "differentiable=True"),
        (lambda p: AdamW(p, betas=(0.0, 0.9)), "a beta of 0"),
        (torch.optim.Adam, "Adam is not torch.optim.AdamW"),
        (type("Mine", (AdamW,), {}), "Mine is not torch.optim.AdamW"),
        (AdamW, ""),
    ],
)
def test_what_stands_in_the_way(optimizer, reason):
    found = adamw.obstacle(optimizer([nn.Parameter(torch.ones(3))]))
    assert found.endswith(reason)
    assert bool(found) == bool(reason)
