"""AdamW over layer groups, each at its condition's rate, inside the meter of relative steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from layerwise.tuning.equal_step import EqualStep
from layerwise.tuning.groups import LayerGroup

__all__ = ["build_optimizer", "optimizer_factory"]


def optimizer_factory() -> Any:
    """Return what transformers' Trainer calls to get `build_optimizer`.

    For ``optimizer_cls_and_kwargs=(optimizer_factory, options)``: Trainer instantiates what is no
    optimizer class and calls the result with the model, whose parameter names it thus sees.
    """
    return build_optimizer


def build_optimizer(
    model: nn.Module,
    *,
    groups: Sequence[LayerGroup],
    factors: Mapping[str, float],
    learning_rate: float,
    weight_decay: float,
    tau: float | None,
    method: str,
    seed: int,
) -> EqualStep:
    """AdamW with a parameter group for each layer group and rate, wrapped to measure or set steps.

    Args:
        model: What is trained; names may carry the prefix of a distributed wrapper.
        groups: The layer groups of the model.
        factors: The learning rate factor of each parameter that trains.
        learning_rate: The top rate.
        weight_decay: On every parameter.
        tau: The relative step of every group; None measures alone.
        method: How the step is measured.
        seed: Fixes the sample of entries.
    """
    parameters = {name.removeprefix("module."): p for name, p in model.named_parameters()}
    trained = {g.name: [n for n in g.parameters if n in factors] for g in groups}
    split = [
        {
            "params": [parameters[n] for n in names if factors[n] == factor],
            "lr": learning_rate * factor,
            "layer_group": group,
        }
        for group, names in trained.items()
        for factor in dict.fromkeys(factors[n] for n in names)
    ]
    adamw = torch.optim.AdamW(split, lr=learning_rate, weight_decay=weight_decay, fused=True)
    tensors = {group: [parameters[n] for n in names] for group, names in trained.items() if names}
    return EqualStep(adamw, tensors, tau, method=method, seed=seed)
