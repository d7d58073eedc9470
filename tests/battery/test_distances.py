"""Gradients at the last hidden state, over each objective of the registry and kind of model.

Held against the slow way: no weight frozen, no graph cut, nothing shared, one backward a row.
"""

import pytest
import torch

from layerwise.distance.gradients import check_rows
from layerwise.objectives import OBJECTIVES
from support import objectives
from support.objectives import gradients, slow_gradients


@pytest.fixture
def case(request):
    name, kind, model = request.param
    objective, loaded = OBJECTIVES[name], objectives.loaded_as(kind, model)
    (batch,) = objective.batches_for(
        loaded, objectives.data_for(objective, 5), batch_size=5, max_length=16, seed=0
    ).batches
    return loaded, batch, objective


every = objectives.every(causal=["granite"])


@every
def test_rows_are_those_of_the_slow_way(case):
    loaded, _, objective = case
    found = torch.from_numpy(gradients(*case)[objective.name]).double()
    expected, per_row = slow_gradients(*case)
    assert found.shape == (5, loaded.model.config.hidden_size)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    others = [torch.cat([g[:r], g[r + 1 :]]).any() for r, g in enumerate(per_row)]
    assert any(others) == objective.coupled


@every
def test_the_same_seed_gives_the_same_rows_and_each_has_a_direction(case):
    name = case[-1].name
    found = gradients(*case)[name]
    assert (found == gradients(*case)[name]).all()
    check_rows(found, objective=name, examples=range(5))


@every
def test_no_gradient_goes_into_the_body_and_no_weight_gets_one(case):
    loaded, batch, objective = case
    ran = []
    blocks = [loaded.model.get_submodule(s.blocks[-1]) for s in loaded.stacks]
    hooks = [b.register_full_backward_hook(lambda *_: ran.append(1)) for b in blocks]
    gradients(loaded, batch, objective)
    for hook in hooks:
        hook.remove()
    assert ran == []
    assert all(p.grad is None and p.requires_grad for p in loaded.model.parameters())
    assert not any(m._forward_hooks or m.training for m in loaded.model.modules())
