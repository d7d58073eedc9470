"""Classification: the class of a text, by a head that is added where the model has none."""

from dataclasses import replace
from typing import Any

from layerwise.data.batches import Batch, BatchSet, class_batch, text_rows
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.objectives.forward import accepted, class_losses
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.shapes import Tensor


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
    are_numbers = all(name.removeprefix("-").isdecimal() for name in found)
    return tuple(sorted(found, key=int if are_numbers else None))


def _batches(request: BatchRequest) -> BatchSet:
    """Return whole texts, each with the number of its class."""
    classes = request.classes
    rows = text_rows(request.tokenizer, request.data, max_length=request.max_length)
    named = []
    for row in rows.rows:
        label = str(request.data.examples[row.index].label)
        if label not in classes:
            raise UnknownNameError(what="label", value=label, known=classes)
        named.append(replace(row, label=classes[label]))
    return request.collated(replace(rows, rows=tuple(named)), class_batch)


def _logits(model: Any, batch: Batch) -> Tensor:
    """Return the logits of each row's classes, shape (n, c)."""
    logits: Tensor = model(**batch.inputs, **accepted(model, use_cache=False)).logits
    return logits


CLASSIFICATION = Objective(
    name="classification",
    kinds=frozenset({"classifier"}),
    batches=_batches,
    losses=lambda model, batch: class_losses(_logits(model, batch), batch),
    class_logits=_logits,
    needs_label=True,
)
