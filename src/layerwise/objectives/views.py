"""Two views of each text under dropout, one vector each, for losses that compare them.

Both views run in one forward: a batch of n texts has 2n rows, the texts and then the same texts
again. A text's vector is the last hidden state of the token that sees the most: the last one that
is not padding in a causal model, else the first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import dropout

from layerwise.data.batches import Batch, BatchSet, Row, assemble, row_batch, text_rows
from layerwise.errors import BadInputError, DataError
from layerwise.objectives.forward import accepted, body
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.seeds import numpy_generator
from layerwise.shapes import Tensor

RATE = 0.1
"""Dropout on the input embeddings of a model that has none of its own (ours)."""


def comparison(name: str, losses: Callable[[Tensor, Tensor], Tensor], *, least: int) -> Objective:
    """Return the objective `name` of texts that are compared.

    Args:
        name: What a user types.
        losses: Of n first views and n second ones, (n, d) each: that of each of the 2n rows.
        least: The fewest texts that can be compared.
    """
    return Objective(
        name=name,
        kinds=frozenset({"encoder", "masked", "causal"}),
        batches=partial(view_batches, name=name, least=least),
        losses=lambda model, batch: losses(*views(model, batch)),
        stochastic=True,
        coupled=True,
        prepare=noise,
    )


def view_batches(request: BatchRequest, *, name: str, least: int) -> BatchSet:
    """Return batches of texts, each twice, drawn together by the seed.

    Raises:
        BadInputError: The batches would be smaller than the `least` that can be compared.
        DataError: There are not that many texts.
    """
    if request.batch_size < least:
        raise BadInputError(
            what=f"batch size leaves {name} too few texts to compare",
            value=request.batch_size,
            expected=f"at least {least}",
            hint="--batch-size N",
        )
    tokenizer = request.tokenizer
    rows = text_rows(tokenizer, request.data, max_length=request.max_length)
    if len(rows.rows) < least:
        raise DataError(
            what=f"{name} needs other texts to compare a text with",
            value=len(rows.rows),
            expected=f"at least {least} examples",
        )
    order = numpy_generator(request.seed, name).permutation(len(rows.rows))
    mixed, size = [rows.rows[i] for i in order], request.batch_size
    groups = [mixed[i : i + size] for i in range(0, len(mixed), size)]
    if len(groups[-1]) < least:
        groups[-2:] = [[*groups[-2], *groups[-1]]]
    collate = partial(_collate, pad=tokenizer.pad_token_id, last=request.kind == "causal")
    return assemble(rows, groups, of=len(request.data), collate=collate)


def _collate(rows: Sequence[Row], *, pad: int | None, last: bool) -> Batch:
    """Each row twice; the token that sees the most is pooled: the `last`, or else the first."""
    twice = [*rows, *rows]
    pooled = torch.tensor([len(row.ids) - 1 if last else 0 for row in twice])
    return row_batch(twice, pad=pad, pooled=pooled)


def views(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the vectors of the first and of the second views, (n, d) each, float32."""
    if batch.pooled is None:
        message = "views need a batch that says which tokens are pooled"
        raise ValueError(message)
    inner = body(model)
    states: Tensor = inner(**batch.inputs, **accepted(inner, use_cache=False)).last_hidden_state
    rows = torch.arange(len(states), device=states.device)
    first, second = states[rows, batch.pooled].float().chunk(2)
    return first, second


@contextmanager
def noise(model: Any) -> Iterator[tuple[str, ...]]:
    """Inside, `model` has active dropout, its own or else on the input embeddings."""
    if _has_dropout(body(model)):
        with _training(model):
            yield ()
        return
    hook = model.get_input_embeddings().register_forward_hook(
        lambda _module, _args, output: dropout(output, RATE)
    )
    try:
        yield (f"the model has no dropout: {RATE} was put on its input embeddings",)
    finally:
        hook.remove()


def _has_dropout(model: nn.Module) -> bool:
    """Return whether anything in `model` would drop something in training mode."""
    return any(
        isinstance(value, float) and value > 0
        for module in _own_modules(model)
        for name, value in vars(module).items()
        if "dropout" in name or (name == "p" and "Dropout" in type(module).__name__)
    )


def _own_modules(module: nn.Module) -> Iterator[nn.Module]:
    """`module` and what is in it, adapters left out: a new adapter's dropout changes nothing."""
    inside: Any = getattr(module, "get_base_layer", None)
    own: nn.Module = module if inside is None else inside()
    yield own
    for child in own.children():
        yield from _own_modules(child)


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is in training mode; after, each module is as it was."""
    before = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
