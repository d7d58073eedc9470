"""Which layer group a number that is not finite comes from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from layerwise.capture.tokens import floating
from layerwise.compat.torch import widened
from layerwise.errors import NonFiniteError
from layerwise.tuning.groups import REST, LayerGroup
from layerwise.tuning.norms import whole


def refuse(what: str, group: str, *, step: int) -> None:
    """Raise.

    Raises:
        NonFiniteError: Always; says `what` was not finite in the step, and in which layer group.
    """
    message = f"non-finite {what} in step {step}"
    raise NonFiniteError(
        message,
        value=f"layer group {group}",
        expected="finite numbers",
        hint="a smaller --learning-rate, or --dtype float32",
    )


def group_norms(model: nn.Module, groups: Sequence[LayerGroup]) -> dict[str, float]:
    """Return the norm of each layer group's gradient; groups without one are left out."""
    parameters = dict(model.named_parameters())
    found = {}
    for group in groups:
        grads = [g for n in group.parameters if (g := parameters[n].grad) is not None]
        if grads:
            each = torch.stack([whole(n) for n in torch._foreach_norm(grads)])
            found[group.name] = widened(each).norm()
    values = torch.stack(list(found.values())).tolist() if found else []
    return dict(zip(found, values, strict=True))


def gradient_fault(
    model: nn.Module, groups: Sequence[LayerGroup], norms: Mapping[str, float]
) -> str | None:
    """Find the layer group that a gradient that is not finite comes from; None if all are.

    What goes wrong in a backward pass spreads to all that lies below, the embeddings last. So it
    is the highest block concerned; or the head, where something over the blocks is concerned too.
    """
    bad = [name for name, norm in norms.items() if not norm < float("inf")]
    if not bad:
        return None
    blocks = [name for name in bad if name != REST]
    parameters = dict(model.named_parameters())
    above = (parameters[name].grad for group in groups for name in group.above)
    if not blocks or any(grad is not None and not bool(grad.isfinite().all()) for grad in above):
        return REST
    return blocks[-1]


@contextmanager
def first_bad(model: nn.Module, groups: Sequence[LayerGroup]) -> Iterator[Callable[[], str]]:
    """Watch blocks inside; give the first group with a weight or output not finite, or "".

    Where weights are not finite, theirs is the fault, whatever was computed first.
    """
    parameters = dict(model.named_parameters())
    bad = [
        group.name
        for group in groups
        if any(not bool(parameters[n].isfinite().all()) for n in group.parameters)
    ]
    named = dict(model.named_modules())
    handles = [
        named[g.module].register_forward_hook(_watch(g.name, bad), with_kwargs=True)
        for g in groups
        if g.row is not None
    ]
    try:
        yield lambda: bad[0] if bad else ""
    finally:
        for handle in handles:
            handle.remove()


def _watch(name: str, bad: list[str]) -> Callable[..., None]:
    """Make a hook that puts `name` into `bad` if the block makes what is not finite."""

    def look(_module: nn.Module, args: Any, options: Any, output: Any) -> None:
        states = next(floating(output), None)
        if bad or states is None or bool(states.isfinite().all()):
            return
        inputs = (x for x in floating([args, options]) if x.shape == states.shape)
        entered = next(inputs, None)
        bad.append(name if entered is None or bool(entered.isfinite().all()) else REST)

    return look
