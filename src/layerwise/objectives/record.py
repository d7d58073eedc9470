"""What an objective is: a batch maker, and one loss an example."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from layerwise.data.batches import Batch, BatchSet, Rows, assemble, by_length, packed
from layerwise.data.text import TextData
from layerwise.models.head_kind import ModelKind
from layerwise.models.heads import class_ids
from layerwise.models.load import LoadedModel
from layerwise.objectives.forward import decoder_start
from layerwise.shapes import Tensor


@dataclass(frozen=True)
class BatchRequest:
    """What batches are made of.

    Attributes:
        tokenizer: The model's.
        data: The examples: all there are, or those of one batch of a training run.
        batch_size: Examples a batch.
        max_length: The most tokens of a row.
        seed: Fixes what is drawn: tokens that are hidden, partners, which texts meet in a batch.
        kind: What the model's head does.
        decoder_start: The token that an encoder-decoder's decoder starts from.
        classes: The number of each class by its name, for a model that tells classes apart.
        packs: The positions in `data` that share a row, row by row; none do where empty.
        processor: What reads pictures, where `data` has some.
    """

    tokenizer: Any
    data: TextData
    batch_size: int
    max_length: int
    seed: int
    kind: ModelKind
    decoder_start: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    packs: Sequence[Sequence[int]] = ()
    processor: Any = None

    def collated(self, rows: Rows, collate: Callable[..., Batch], **options: Any) -> BatchSet:
        """Return `rows` in batches, longest first, by ``collate(rows, pad=..., **options)``."""
        whole = packed(rows.rows, self.packs) if self.packs else rows.rows
        groups = by_length(whole, batch_size=self.batch_size)
        make = partial(collate, pad=self.tokenizer.pad_token_id, **options)
        return assemble(rows, groups, of=len(self.data), collate=make)


@dataclass(frozen=True)
class Objective:
    """What a model is trained to do, as a loss with no parameters of its own.

    Attributes:
        name: What a user types.
        kinds: The kinds of model that it is for.
        batches: A request as batches. Says nothing in the log: a training run calls it for every
            batch, and what there is to say is in the notes of what it gives.
        losses: ``losses(model, batch)``, shape (n,), float32: one loss a row of the batch, whose
            mean is the training loss. Each is the mean over that row's own loss tokens, so that how
            rows are batched changes nothing (except where `coupled`). Differentiable; nothing but
            the model's forward is run, once.
        class_logits: ``class_logits(model, batch)``, shape (n, c): the logits of the classes of
            each row, whose cross-entropy its loss is; None where rows have no classes.
        stochastic: Whether the loss needs dropout, hence differs from run to run unless seeded.
        coupled: Whether a row's loss depends on the other rows of its batch.
        needs_prompt: Whether examples must have a prompt or be chats.
        needs_label: Whether examples must have a class.
        needs_next_sentence: Whether the model must have a pretrained next-sentence head.
        packs: Whether examples can share a row, in a causal model.
        prepare: Must be entered around every use of `losses` and before hooks are placed; gives
            what it changed in the model, in words, and puts it back on leaving.
    """

    name: str
    kinds: frozenset[ModelKind]
    batches: Callable[[BatchRequest], BatchSet]
    losses: Callable[[Any, Batch], Tensor]
    class_logits: Callable[[Any, Batch], Tensor] | None = None
    stochastic: bool = False
    coupled: bool = False
    needs_prompt: bool = False
    needs_label: bool = False
    needs_next_sentence: bool = False
    packs: bool = False
    prepare: Callable[[Any], AbstractContextManager[tuple[str, ...]]] = lambda _model: nullcontext(
        ()
    )

    def make_batches(self, tokenizer: Any, data: TextData, **options: Any) -> BatchSet:
        """Return the batches of `data`; `options` are the other fields of `BatchRequest`."""
        return self.batches(BatchRequest(tokenizer, data, **options))

    def batches_for(
        self,
        loaded: LoadedModel,
        data: TextData,
        *,
        batch_size: int,
        max_length: int,
        seed: int,
        packs: Sequence[Sequence[int]] = (),
    ) -> BatchSet:
        """The batches of `data` for `loaded`, which says the rest of what a request holds."""
        return self.make_batches(
            loaded.tokenizer,
            data,
            batch_size=batch_size,
            max_length=max_length,
            seed=seed,
            kind=loaded.kind,
            decoder_start=decoder_start(loaded.model),
            classes=class_ids(loaded.model),
            packs=packs,
            processor=loaded.processor() if data.has_pictures else None,
        )
