"""The gradient of each example's loss with respect to the last hidden state, one row an example.

The last hidden state is what the body of a model gives to its head. No gradient goes further down,
so none is computed there: weights are frozen, and the graph begins at the output of the last block.
A pooler, which reads the last hidden state on the head's behalf, is part of the head.

An example's row is the mean of the gradient over its tokens, padding left out. Where an example has
two rows in a batch, as the two views of SimCSE and Barlow Twins, its loss is the mean of both rows'
losses and its tokens are those of both (ours). Under these two the loss of an example depends on
the others of its batch; the gradient is then that of the sum of all losses of the batch.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from layerwise.capture.tokens import floating
from layerwise.data.batches import Batch
from layerwise.errors import BadInputError, ModelError, NonFiniteError
from layerwise.models.load import LoadedModel
from layerwise.models.parts import owner
from layerwise.objectives import Objective
from layerwise.objectives.forward import body, without_adapter
from layerwise.shapes import Array, Bool, Float, Tensor

States = Callable[[], Tensor]
Entries = Counter[tuple[str, bool]]
"""How many entries of gradients, token by token, are not zero (True) or are, by objective."""


@contextmanager
def last_states(loaded: LoadedModel) -> Iterator[States]:
    """Inside, graphs begin after the last block; what gives the last hidden state of a forward.

    All weights of the model must be frozen.
    """
    heard: list[Tensor] = []

    def begin(_module: object, _args: object, output: Any) -> None:
        next(floating(output)).requires_grad_()

    def keep(_module: object, _args: object, output: Any) -> None:
        heard[:] = [next(floating(output))]

    def taken() -> Tensor:
        if not (heard and heard[0].requires_grad):
            msg = "model that gives no last hidden state to its head"
            raise ModelError(msg, value=loaded.source, expected="a body and a head")
        return heard.pop()

    # An encoder's last block is read by the decoder, not by a head.
    last = [stack.blocks[-1] for stack in loaded.stacks if stack.side == "decoder"]
    # Some heads call the model around a stack and not the body, which would only pass it on.
    held = [owner(loaded.model, name) for name in last]
    givers = dict.fromkeys([body(loaded.model), *(module for _, module in filter(None, held))])
    whole = None if loaded.kind == "encoder" else without_adapter(loaded.model)
    with ExitStack() as handles:
        for name in last:
            hook = loaded.model.get_submodule(name).register_forward_hook(begin)
            handles.callback(hook.remove)
        for module in givers:
            if module is not whole:  # It gives logits.
                handles.callback(module.register_forward_hook(keep).remove)
        yield taken


@contextmanager
def prepared(objective: Objective, model: Any) -> Iterator[tuple[str, ...]]:
    """Inside, `model` is as `objective` needs it; what was changed, in words."""
    model.train(objective.stochastic)
    try:
        with objective.prepare(model) as changed:
            yield changed
    finally:
        model.eval()


def sharing(
    objectives: Sequence[Objective], batches: Mapping[str, Batch]
) -> list[tuple[Batch, list[Objective]]]:
    """Return batches to be run, each with the objectives that one forward of it serves.

    Objectives that pool the states of the same texts share one, in whatever order they have the
    texts; they must agree on how the model is prepared.
    """
    found: list[tuple[Batch, list[Objective]]] = []
    for objective in objectives:
        batch = batches[objective.name]
        group = next((members for other, members in found if _alike(other, batch)), None)
        if group is None:
            found.append((batch, [objective]))
        else:
            group.append(objective)
    return found


def _alike(first: Batch, second: Batch) -> bool:
    """Return whether both pool the states of the same rows, up to their order."""
    left, right = _pooling(first), _pooling(second)
    if left is None or right is None:
        return False
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def _pooling(batch: Batch) -> dict[str, Tensor] | None:
    """Return what a forward of `batch` reads and pools, by example; None where it has a target."""
    if batch.pooled is None or batch.labels is not None or batch.classes is not None:
        return None
    order = batch.index.argsort(stable=True)
    return {
        "index": batch.index[order],
        "pooled": batch.pooled[order],
        **{name: values[order] for name, values in batch.inputs.items()},
    }


class _BodyOutput:
    """A body that has run: gives the states that it gave, whatever it is asked."""

    def __init__(self, hidden: Tensor) -> None:
        self.base_model = self
        self._output = SimpleNamespace(last_hidden_state=hidden)

    def forward(self, **_inputs: Tensor) -> SimpleNamespace:
        """Return what the body gave."""
        return self._output

    __call__ = forward


def example_gradients(
    model: Any, batch: Batch, objectives: Sequence[Objective], states: States, entries: Entries
) -> dict[str, Float[Array, "n d"]]:
    """Return the rows of each of `objectives`: one, or several that `sharing` put together.

    They share one forward of `batch`, with all weights frozen, inside `last_states` (which gave
    `states`) and `prepared`. Examples are in order.

    Raises:
        ModelError: The head does not read the last hidden state.
    """
    losses = objectives[0].losses(model, batch)
    hidden = states()
    rows = {objectives[0].name: _rows(losses, hidden, batch, objectives[0], entries)}
    for objective in objectives[1:]:
        losses = objective.losses(_BodyOutput(hidden), batch)
        rows[objective.name] = _rows(losses, hidden, batch, objective, entries)
    return rows


def _rows(
    losses: Float[Tensor, "b"],
    hidden: Float[Tensor, "b t d"],
    batch: Batch,
    objective: Objective,
    entries: Entries,
) -> Float[Array, "n d"]:
    """Return the gradients of one objective, one row an example, and count into `entries`."""
    gradient: Any = torch.autograd.grad(losses.sum(), hidden, allow_unused=True)[0]
    if gradient is None:
        msg = f"head that does not read the last hidden state, under {objective.name}"
        raise ModelError(msg, value=type(hidden).__name__, expected="a body and a head")
    mask = batch.decoder_mask
    if mask is None:
        mask = batch.inputs.get("attention_mask", batch.token_mask).bool()
    own = gradient[mask]
    entries[objective.name, True] += (nonzero := int(own.count_nonzero()))
    entries[objective.name, False] += own.numel() - nonzero
    return _pooled(gradient, mask, batch.index).cpu().numpy()


def _pooled(
    gradient: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], index: Tensor
) -> Float[Tensor, "n d"]:
    """Means over the tokens of each example, which may have several rows, by its index.

    The rows' losses were summed; an example's loss is their mean.
    """
    wide = torch.promote_types(gradient.dtype, torch.float32)
    weights = mask.to(wide)
    sums = (weights[:, None, :] @ gradient.to(wide))[:, 0]
    _, place, rows = torch.unique(index, return_inverse=True, return_counts=True)
    tokens = torch.zeros(len(rows), dtype=wide, device=sums.device)
    tokens.index_add_(0, place, weights.sum(1))
    whole = torch.zeros(len(rows), sums.shape[1], dtype=wide, device=sums.device)
    return whole.index_add_(0, place, sums) / (tokens * rows)[:, None]


def check_rows(rows: Float[Array, "n d"], *, objective: str, examples: Sequence[int]) -> None:
    """Nothing, where every row of an objective is finite and has a direction.

    Raises:
        NonFiniteError: An entry is NaN or infinite.
        BadInputError: A row is zero.
    """
    for bad, kind, what in (
        (~np.isfinite(rows).all(1), NonFiniteError, "gradient that is not finite"),
        (~rows.any(1), BadInputError, "gradient of zero"),
    ):
        if bad.any():
            raise kind(
                what=what,
                value=f"{objective}, example {examples[int(bad.argmax())]}",
                expected="finite numbers, not all of them zero",
                hint="--dtype float32, or --objectives without it",
            )
