"""SimCSE: two dropout views of a text are nearer to each other than to other texts.

Unsupervised SimCSE (arXiv 2104.08821, equation 4). Both views run in one forward: a batch of n
texts has 2n rows, the texts and then the same texts again. With c(i, j) the cosine of text i's
first and text j's second view over the temperature,

    loss of row i     = -log( exp c(i, i) / sum_j exp c(i, j) )      (first view among the seconds)
    loss of row n + i = -log( exp c(i, i) / sum_j exp c(j, i) )      (second view among the firsts)

so the mean over the 2n rows is the symmetric loss; SimCSE's own is the mean over the first n.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy, dropout, normalize

from layerwise.data.batches import (
    Batch,
    BatchSet,
    Row,
    assemble,
    input_tensors,
    padded,
    text_rows,
)
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, DataError
from layerwise.models.kind import ModelKind
from layerwise.objectives.forward import accepted
from layerwise.objectives.record import Objective
from layerwise.seeds import numpy_generator
from layerwise.shapes import Tensor

__all__ = ["SIMCSE", "SimCSE"]


def _make_batches(
    tokenizer: Any,
    data: TextData,
    *,
    batch_size: int,
    max_length: int,
    seed: int,
    kind: ModelKind,
    decoder_start: int | None = None,
) -> BatchSet:
    """Batches of `batch_size` texts, each twice, drawn together by the seed."""
    del decoder_start
    if batch_size < 2:
        raise BadInputError(
            what="batch size leaves simcse no negatives",
            value=batch_size,
            expected="at least 2",
            hint="--batch-size N",
        )
    rows = text_rows(tokenizer, data, max_length=max_length)
    groups = _groups(rows.rows, batch_size=batch_size, seed=seed)
    collate = partial(_collate, pad=tokenizer.pad_token_id, last=kind == "causal")
    return assemble(rows, groups, of=len(data), collate=collate)


def _groups(rows: Sequence[Row], *, batch_size: int, seed: int) -> list[list[Row]]:
    """`rows` in a seeded order, so that negatives are not chosen by length; no group of one."""
    if len(rows) < 2:
        raise DataError(
            what="simcse needs other texts to tell a text from",
            value=len(rows),
            expected="at least 2 examples",
        )
    order = numpy_generator(seed, "simcse").permutation(len(rows))
    mixed = [rows[i] for i in order]
    groups = [mixed[i : i + batch_size] for i in range(0, len(mixed), batch_size)]
    if len(groups[-1]) == 1:
        alone = groups.pop()
        groups[-1] += alone
    return groups


def _collate(rows: Sequence[Row], *, pad: int | None, last: bool) -> Batch:
    """Each row twice; the token that sees the most is pooled: the `last`, or else the first."""
    twice = [*rows, *rows]
    return Batch(
        inputs=input_tensors(twice, pad=pad),
        labels=None,
        token_mask=padded([row.counted for row in twice], fill=0, dtype=torch.bool),
        index=torch.tensor([row.index for row in twice]),
        pooled=torch.tensor([len(row.ids) - 1 if last else 0 for row in twice]),
    )


@dataclass(frozen=True)
class SimCSE:
    """The loss and the dropout it needs.

    Attributes:
        temperature: Divides the cosines.
        dropout: Rate on the input embeddings of a model that has no active dropout (ours).
    """

    temperature: float = 0.05
    dropout: float = 0.1

    def losses(self, model: Any, batch: Batch) -> Tensor:
        """The loss of each of the batch's 2n rows, as in the module's text."""
        first, second = normalize(_vectors(model, batch), dim=1).chunk(2)
        similarity = first @ second.T / self.temperature
        same = torch.arange(len(similarity), device=similarity.device)
        return torch.cat(
            [cross_entropy(s, same, reduction="none") for s in (similarity, similarity.T)]
        )

    @contextmanager
    def prepare(self, model: Any) -> Iterator[tuple[str, ...]]:
        """Inside, `model` has active dropout, its own or on the input embeddings."""
        if _has_dropout(_body(model)):
            with _training(model):
                yield ()
            return
        hook = model.get_input_embeddings().register_forward_hook(
            lambda _module, _args, output: dropout(output, self.dropout)
        )
        try:
            yield (f"the model has no dropout: {self.dropout} was put on its input embeddings",)
        finally:
            hook.remove()


def _body(model: Any) -> Any:
    """`model` without adapter wrapper and without head."""
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    return whole.base_model


def _vectors(model: Any, batch: Batch) -> Tensor:
    """The last hidden state of each row's pooled token, shape (2n, d), float32."""
    if batch.pooled is None:
        message = "simcse needs a batch that says which tokens are pooled"
        raise ValueError(message)
    body = _body(model)
    states: Tensor = body(**batch.inputs, **accepted(body, use_cache=False)).last_hidden_state
    return states[torch.arange(len(states), device=states.device), batch.pooled].float()


def _has_dropout(model: torch.nn.Module) -> bool:
    """Whether anything in `model` would drop something in training mode."""
    return any(
        isinstance(value, float) and value > 0
        for module in model.modules()
        for name, value in vars(module).items()
        if "dropout" in name or (name == "p" and "Dropout" in type(module).__name__)
    )


@contextmanager
def _training(model: torch.nn.Module) -> Iterator[None]:
    """Inside, `model` is in training mode; after, each module is as it was."""
    before = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


SIMCSE = Objective(
    name="simcse",
    kinds=frozenset({"encoder", "masked", "causal"}),
    make_batches=_make_batches,
    losses=SimCSE().losses,
    stochastic=True,
    coupled=True,
    prepare=SimCSE().prepare,
)
