"""Every optimizer that torch ships, under every method that it allows: the definition holds."""

import copy

import pytest
import torch
from torch import nn

from layerwise.tuning.equal_step import METHODS, EqualStep

TAU = 3e-3
COUPLED = {"LBFGS", "SparseAdam", "Muon"}  # A closure; sparse gradients; matrices alone.
RATES = {"Adadelta": 1.0, "SGD": 0.1, "Adafactor": 1e-2}


class Tied(nn.Module):
    """Four layer groups; the first's and the last's matrix are one tensor."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 12)
        self.one = nn.Sequential(nn.Linear(12, 20), nn.LayerNorm(20))
        self.two = nn.Linear(20, 12)
        self.head = nn.Linear(12, 30)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        hidden = self.embed(ids)
        return self.head(hidden + self.two(torch.tanh(self.one(hidden))))

    def groups(self):
        return {
            "rest": [self.embed.weight, self.head.bias],
            "one": list(self.one.parameters()),
            "two": list(self.two.parameters()),
        }


def plain(name):
    cls = getattr(torch.optim, name)
    return lambda model: cls(model.parameters(), lr=RATES.get(name, 1e-3))


def adamw(**options):
    return lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3, **options)


def decayed(model):
    """AdamW with rates that differ between and inside layer groups, and a zero decay."""
    first, *others = model.parameters()
    return torch.optim.AdamW(
        [
            {"params": others[::2], "lr": 1e-3},
            {"params": [first], "lr": 2e-4, "weight_decay": 0.0},
            {"params": others[1::2], "lr": 5e-4, "betas": (0.8, 0.99)},
        ]
    )


OPTIMIZERS = {
    name: plain(name)
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type)
    and issubclass(cls, torch.optim.Optimizer)
    and cls is not torch.optim.Optimizer
    and name not in COUPLED
}
ADAMW = {
    "AdamW fused": adamw(fused=True),
    "AdamW foreach": adamw(foreach=True),
    "AdamW one by one": adamw(foreach=False),
    "AdamW no decay": adamw(weight_decay=0.0, fused=True),
    "AdamW rates": decayed,
}
CASES = [("copy", name) for name in {**OPTIMIZERS, **ADAMW}]
CASES += [(method, name) for method in ("exact", "sampled", "auto") for name in ADAMW]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def subject(request):
    method, name = request.param
    torch.manual_seed(0)
    model = Tied()
    optimizer = {**OPTIMIZERS, **ADAMW}[name](model)
    return model, optimizer, EqualStep(optimizer, model.groups(), TAU, method=method)


def gradients(model, seed):
    torch.manual_seed(100 + seed)
    ids = torch.randint(30, (4, 7))
    model.zero_grad()
    nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.roll(1).flatten()).backward()


def twin(model, optimizer):
    """The same weights, gradients and state in another model with its plain optimizer."""
    other, plain_optimizer = copy.deepcopy((model, optimizer))
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        q.grad = None if p.grad is None else p.grad.clone()
    return other, plain_optimizer


def joined(tensors):
    return torch.cat([t.detach().double().flatten() for t in tensors])


def same_state(one, two):
    first, second = one.state_dict()["state"], two.state_dict()["state"]
    for key, values in first.items():
        for name, value in values.items():
            torch.testing.assert_close(value, second[key][name], rtol=0, atol=0)


def test_every_step_is_tau_in_the_optimizers_own_direction(subject):
    model, inner, equal = subject
    for seed in range(4):
        gradients(model, seed)
        other, plain_optimizer = twin(model, inner)
        before = {name: joined(group) for name, group in model.groups().items()}
        plain_optimizer.step()
        equal.step()
        same_state(inner, plain_optimizer)
        theirs = other.groups()
        for name, group in model.groups().items():
            moved, wanted = joined(group) - before[name], joined(theirs[name]) - before[name]
            assert moved.norm() / before[name].norm() == pytest.approx(TAU, rel=1e-4)
            assert 1 - torch.cosine_similarity(moved, wanted, dim=0) < 1e-5
            assert equal.steps[name].asked == TAU
            assert equal.steps[name].achieved == pytest.approx(TAU, rel=1e-6)
            natural = wanted.norm() / before[name].norm()
            assert equal.steps[name].natural == pytest.approx(float(natural), rel=1e-3)


def test_measuring_alone_changes_no_bit(subject):
    model, inner, equal = subject
    equal.tau = None
    for seed in range(3):
        gradients(model, seed)
        other, plain_optimizer = twin(model, inner)
        before = {name: joined(group) for name, group in model.groups().items()}
        equal.measuring = seed != 1
        plain_optimizer.step()
        equal.step()
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(p, q)
        if not equal.measuring:
            assert equal.steps == {}
            continue
        for name, group in model.groups().items():
            ratio = float((joined(group) - before[name]).norm() / before[name].norm())
            assert equal.steps[name].achieved == pytest.approx(ratio, rel=1e-3)
            assert equal.steps[name].asked is None


def test_what_has_no_gradient_stays_and_what_has_a_zero_one_is_left_alone(subject):
    model, _, equal = subject
    gradients(model, 0)
    model.one[0].weight.grad = None
    for parameter in model.two.parameters():
        parameter.grad = None
    before = [p.detach().clone() for p in (model.one[0].weight, *model.two.parameters())]
    group = joined(model.one.parameters())
    equal.step()
    for old, new in zip(before, (model.one[0].weight, *model.two.parameters()), strict=True):
        assert torch.equal(old, new)
    assert equal.steps["two"].achieved == 0
    moved = (joined(model.one.parameters()) - group).norm() / group.norm()
    assert moved == pytest.approx(TAU, rel=1e-4)


def test_resumed_training_gives_the_same_bits(subject, tmp_path):
    model, inner, equal = subject
    for seed in range(5):
        if seed == 2:
            torch.save((model.state_dict(), equal.state_dict()), tmp_path / "at2.pt")
        gradients(model, seed)
        equal.step()
    fresh = Tied()
    again = EqualStep(
        _like(inner, model, fresh), fresh.groups(), 2 * TAU, method=equal.method, seed=7
    )
    weights, state = torch.load(tmp_path / "at2.pt")
    fresh.load_state_dict(weights)
    again.load_state_dict(state)
    assert again.tau == TAU
    for seed in range(2, 5):
        gradients(fresh, seed)
        again.step()
    for p, q in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q)


def _like(optimizer, model, fresh):
    """A new optimizer of the same kind for `fresh`, with nothing in its state."""
    match = {id(p): q for p, q in zip(model.parameters(), fresh.parameters(), strict=True)}
    groups = [
        {k: v for k, v in g.items() if k not in {"params", "step"}}
        | {"params": [match[id(p)] for p in g["params"]]}
        for g in optimizer.param_groups
    ]
    return type(optimizer)(groups, lr=1.0)


def test_methods_are_the_ones_tested():
    assert {method for method, _ in CASES} == set(METHODS)
    assert len(OPTIMIZERS) >= 12
