"""Classification: the class of a text, by a head that is added where the model has none."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from layerwise.data.batches import (
    Batch,
    BatchSet,
    assemble,
    by_length,
    class_batch,
    text_rows,
)
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.objectives.forward import accepted, class_losses
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.shapes import Tensor

__all__ = ["CLASSIFICATION", "label_names"]


def label_names(data: TextData) -> tuple[str, ...]:
    """The classes of `data`, each once: by value where all are whole numbers, else by letter.

    Raises:
        BadInputError: There are fewer than two.
    """
    found = {example.label for example in data.examples if example.label is not None}
    if len(found) < 2:
        raise BadInputError(
            what="classification needs two classes or more",
            value=", ".join(found) or data.source,
            expected="a column of labels that differ",
            hint="--label-column NAME",
        )
    return tuple(sorted(found, key=int if all(map(_is_number, found)) else None))


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _batches(request: BatchRequest) -> BatchSet:
    """Return whole texts, each with the number of its class."""
    rows = text_rows(request.tokenizer, request.data, max_length=request.max_length)
    named = (request.data.examples[row.index].label for row in rows.rows)
    numbers = _numbers(named, request.classes)
    rows = replace(
        rows, rows=tuple(replace(r, label=n) for r, n in zip(rows.rows, numbers, strict=True))
    )
    return assemble(
        rows,
        by_length(rows.rows, batch_size=request.batch_size),
        of=len(request.data),
        collate=partial(class_batch, pad=request.tokenizer.pad_token_id),
    )


def _numbers(names: Iterable[str | None], classes: Mapping[str, int]) -> list[int]:
    """Return the number of each name.

    Raises:
        UnknownNameError: A label is no class of the model's.
    """
    found = [str(name) for name in names]
    for name in found:
        if name not in classes:
            kind = "label"
            raise UnknownNameError(kind, value=name, known=classes)
    return [classes[name] for name in found]


def _logits(model: Any, batch: Batch) -> Tensor:
    """Return the logits of each row's classes, shape (n, c)."""
    logits: Tensor = model(**batch.inputs, **accepted(model, use_cache=False)).logits
    return logits


def _losses(model: Any, batch: Batch) -> Tensor:
    """Return each row's cross-entropy, shape (n,)."""
    return class_losses(_logits(model, batch), batch)


CLASSIFICATION = Objective(
    name="classification",
    kinds=frozenset({"classifier"}),
    batches=_batches,
    losses=_losses,
    class_logits=_logits,
    needs_label=True,
)
