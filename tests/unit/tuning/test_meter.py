"""The step of BA against the matrix written out."""

import pytest
import torch

from layerwise.tuning.meter import AdapterFactors, StepMeter, adapter_step
from support.tuning import wrapped


def factors(seed, rank=4, inputs=30, outputs=20):
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(rank, inputs, generator=chance), torch.randn(outputs, rank, generator=chance)


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-7])
def test_it_is_the_norm_of_the_product_written_out(size):
    a0, b0 = (t.double() for t in factors(0))
    a1, b1 = (x + size * d for x, d in zip((a0, b0), factors(1), strict=True))
    true = 2.0 * float((b1 @ a1 - b0 @ a0).norm())
    assert adapter_step(a0, b0, a1, b1, 2.0) == pytest.approx(true, rel=1e-6)
    assert adapter_step(a0, b0, a1, b1, -2.0) == pytest.approx(true, rel=1e-6)


def test_nothing_moves_while_b_is_zero():
    a0, b = factors(0)
    a1, _ = factors(1)
    assert adapter_step(a0, 0 * b, a1, 0 * b) == 0
    assert adapter_step(a0, b, a0, b) == 0


def test_the_first_step_is_that_of_b_alone():
    a, b = factors(0)
    assert adapter_step(a, 0 * b, a, b) == pytest.approx(float((b @ a).norm()), rel=1e-6)


def test_groups_take_their_modules_together():
    shapes = ((0, 5.0, 2.0), (1, 12.0, 0.5))
    adapters = [AdapterFactors(*factors(seed), scale, base) for seed, base, scale in shapes]
    meter, (_, optimizer) = StepMeter({"block": adapters, "none": []}), wrapped()
    meter.before(optimizer, wanted=True)
    assert not optimizer.measuring
    assert meter.after(optimizer)["block"].achieved == 0
    moved = 0.0
    for seed, x in enumerate(adapters):
        was = (x.b @ x.a).double()
        x.a.add_(factors(seed + 5)[0], alpha=0.1)
        x.b.add_(factors(seed + 5)[1], alpha=0.1)
        moved += float(x.scaling * ((x.b @ x.a).double() - was).norm()) ** 2
    found = meter.after(optimizer)
    assert found["block"].achieved == pytest.approx(moved**0.5 / 13.0, rel=1e-5)
    assert found["block"].asked is None
    assert found["none"].achieved is None


@pytest.mark.parametrize("groups", [{}, {"block": [AdapterFactors(*factors(0), 1.0, 1.0)]}])
def test_what_nobody_will_look_at_is_not_measured(groups):
    meter, (_, optimizer) = StepMeter(groups), wrapped()
    meter.before(optimizer, wanted=False)
    assert not optimizer.measuring
    assert meter.after(optimizer) == {}
