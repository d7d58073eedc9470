"""Gradients at the last hidden state, over each objective of the registry and kind of model.

Held against the slow way: no weight frozen, no graph cut, nothing shared, one backward a row.
"""

import pytest
import torch

from layerwise.capture.restore import frozen
from layerwise.distance.gradients import check_rows, example_gradients, last_states, prepared
from layerwise.objectives import OBJECTIVES
from support import objectives


@pytest.fixture
def case(request):
    name, kind, model = request.param
    objective, loaded = OBJECTIVES[name], objectives.loaded_as(kind, model)
    (batch,) = objective.batches_for(
        loaded, objectives.data_for(objective, 5), batch_size=5, max_length=16, seed=0
    ).batches
    return loaded, objective, batch


every = objectives.every(causal=["granite"])


def fast(loaded, objective, batch):
    with (
        frozen(loaded.model, training=False, seed=0),
        last_states(loaded) as states,
        prepared(objective, loaded.model),
    ):
        torch.manual_seed(3)
        return example_gradients(loaded.model, batch, [objective], states)[objective.name]


def slow(loaded, objective, batch):
    """Each row's backward through whatever the model holds, and means by hand."""
    model, heard = loaded.model, []
    body = model.decoder if loaded.kind == "seq2seq" else model.base_model
    hook = body.register_forward_hook(lambda _, __, out: heard.append(out.last_hidden_state))
    model.train(objective.stochastic)
    with objective.prepare(model):
        torch.manual_seed(3)
        losses = objective.losses(model, batch)
    model.eval()
    hook.remove()
    (hidden,) = heard
    per_row = [torch.autograd.grad(loss, hidden, retain_graph=True)[0] for loss in losses]
    whole = torch.stack(per_row).sum(0).double()
    counted = batch.inputs.get("decoder_attention_mask", batch.inputs["attention_mask"])
    found = []
    for example in sorted(set(batch.index.tolist())):
        mine = [r for r in range(len(batch)) if batch.index[r] == example]
        tokens = [whole[r, t] for r in mine for t in range(whole.shape[1]) if counted[r, t]]
        found.append(torch.stack(tokens).mean(0) / len(mine))
    return torch.stack(found), per_row


@every
def test_rows_are_those_of_the_slow_way(case):
    loaded, objective, batch = case
    found = torch.from_numpy(fast(*case)).double()
    expected, per_row = slow(loaded, objective, batch)
    assert found.shape == (5, loaded.model.config.hidden_size)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    others = [torch.cat([g[:r], g[r + 1 :]]).any() for r, g in enumerate(per_row)]
    assert any(others) == objective.coupled


@every
def test_the_same_seed_gives_the_same_rows_and_each_has_a_direction(case):
    found = fast(*case)
    assert (found == fast(*case)).all()
    check_rows(found, objective=case[1].name, examples=range(5))


@every
def test_no_gradient_goes_into_the_body_and_no_weight_gets_one(case):
    loaded, objective, batch = case
    ran = []
    blocks = [loaded.model.get_submodule(s.blocks[-1]) for s in loaded.stacks]
    hooks = [b.register_full_backward_hook(lambda *_: ran.append(1)) for b in blocks]
    fast(loaded, objective, batch)
    for hook in hooks:
        hook.remove()
    assert ran == []
    assert all(p.grad is None and p.requires_grad for p in loaded.model.parameters())
    assert not any(m._forward_hooks or m.training for m in loaded.model.modules())
