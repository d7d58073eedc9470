"""AdamW has each parameter once, at its condition's rate, in its layer group."""

import pytest
import torch

from layerwise.models.roles import roles
from layerwise.tuning.conditions import CONDITIONS, places
from layerwise.tuning.groups import layer_groups
from layerwise.tuning.record import TuneSettings
from layerwise.tuning.trainer import Job, build_optimizer


def built(loaded, condition="standard", *, model=None, tau=None):
    where = places(roles(loaded.model, loaded.stacks), loaded.stacks)
    factors = CONDITIONS[condition].trained(where, TuneSettings())
    groups = layer_groups(loaded.model, loaded.stacks)
    settings = TuneSettings(learning_rate=1e-2, weight_decay=0.1)
    job = Job(loaded, None, None, groups, settings, factors, "exact", tau)
    return build_optimizer(model or loaded.model, job), factors


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert"])
@pytest.mark.parametrize("condition", ["standard", "frozen-lower", "frozen-norm"])
def test_each_trained_parameter_once_at_its_rate(tuning, name, condition):
    loaded = tuning.loaded(name)
    optimizer, factors = built(loaded, condition)
    groups = layer_groups(loaded.model, loaded.stacks)
    names = {id(p): n for n, p in loaded.model.named_parameters()}
    rates = [(names[id(p)], g["lr"]) for g in optimizer.param_groups for p in g["params"]]
    assert len(rates) == len(factors)
    assert dict(rates) == {n: pytest.approx(1e-2 * factor) for n, factor in factors.items()}
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.1}
    homes = {n: group.name for group in groups for n in group.parameters}
    for group in optimizer.param_groups:
        assert {homes[names[id(p)]] for p in group["params"]} == {group["layer_group"]}


def test_a_wrapper_s_names_are_understood(tuning):
    loaded = tuning.loaded("llama")
    wrapper = torch.nn.Module()
    wrapper.module = loaded.model
    plain, wrapped = built(loaded)[0], built(loaded, model=wrapper)[0]
    assert [[id(p) for p in g["params"]] for g in plain.param_groups] == [
        [id(p) for p in g["params"]] for g in wrapped.param_groups
    ]


def test_tau_and_method_reach_the_optimizer(tuning):
    optimizer, _ = built(tuning.loaded("llama"), "equal-step", tau=2e-3)
    assert (optimizer.tau, optimizer.method) == (2e-3, "exact")
