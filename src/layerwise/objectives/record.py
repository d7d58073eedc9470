"""What an objective is: a batch maker, and one loss an example."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from layerwise.data.batches import Batch, BatchSet
from layerwise.data.text import TextData
from layerwise.models.kind import ModelKind
from layerwise.shapes import Tensor

__all__ = ["BatchMaker", "Objective", "as_it_is"]


class BatchMaker(Protocol):
    """Turns data into batches.

    `decoder_start` is the token that an encoder-decoder's decoder starts from; others ignore it.
    """

    def __call__(
        self,
        tokenizer: Any,
        data: TextData,
        *,
        batch_size: int,
        max_length: int,
        seed: int,
        kind: ModelKind,
        decoder_start: int | None = None,
    ) -> BatchSet:
        """The batches of `data`."""


def as_it_is(model: Any) -> AbstractContextManager[tuple[str, ...]]:
    """A context in which `model` is left alone; there is nothing to note."""
    del model
    return nullcontext(())


@dataclass(frozen=True)
class Objective:
    """What a model is trained to do, as a loss with no parameters of its own.

    Attributes:
        name: What a user types.
        kinds: The kinds of model that it is for.
        make_batches: Data as batches.
        losses: ``losses(model, batch)``, shape (n,): one loss a row of the batch, each the mean
            over that row's own loss tokens, so that how rows are batched changes nothing (except
            where `coupled`). Differentiable; nothing but the model's forward is run, once.
        stochastic: Whether the loss needs dropout, hence differs from run to run unless seeded.
        coupled: Whether a row's loss depends on the other rows of its batch.
        needs_prompt: Whether examples must have a prompt or be chats.
        prepare: Must be entered around every use of `losses` and before hooks are placed; gives
            what it changed in the model, in words, and puts it back on leaving.
    """

    name: str
    kinds: frozenset[ModelKind]
    make_batches: BatchMaker
    losses: Callable[[Any, Batch], Tensor]
    stochastic: bool = False
    coupled: bool = False
    needs_prompt: bool = False
    prepare: Callable[[Any], AbstractContextManager[tuple[str, ...]]] = as_it_is
