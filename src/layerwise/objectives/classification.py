"""Classification: the class of a text, by a head that is added where the model has none."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from layerwise.data.batches import Batch, BatchSet, class_batch, text_rows
from layerwise.data.labels import in_order
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.objectives.forward import accepted, class_losses
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.shapes import Tensor


def label_names(data: TextData) -> tuple[str, ...]:
    """Return the classes of `data`, whether or not examples of them were drawn, in its own order.

    Labels that may hold together, and a score, are named by the data.

    Raises:
        BadInputError: There are fewer than two.
    """
    if data.has_scores:
        return data.classes
    found = {example.label for example in data.examples if example.label is not None}
    if len(found | {*data.classes}) < 2:
        raise BadInputError(
            what="classification needs two classes or more",
            value=", ".join(found) or data.source,
            expected="a column of labels that differ",
            hint="--label-column NAME",
        )
    return data.classes if found <= {*data.classes} else in_order(found)


def named_problem(model: Any, data: TextData) -> None:
    """Tell `model` whether its outputs are scores, or labels that may hold together.

    Where the labels are classes that is understood. Who loads the model later reads it so.
    """
    if data.has_scores:
        is_score = len(data.classes) == 1
        model.config.problem_type = "regression" if is_score else "multi_label_classification"


def _batches(request: BatchRequest) -> BatchSet:
    """Return whole texts, each with the number of its class, or with what each output is to say."""
    classes, data = request.classes, request.data
    if data.has_scores and len(data.classes) != len(classes):
        raise BadInputError(
            what=f"head of {len(classes)} outputs for labels of {len(data.classes)}",
            value=", ".join(classes),
            expected=", ".join(data.classes),
            hint="the base model, which gets a head for them",
        )
    rows = text_rows(request.tokenizer, data, max_length=request.max_length)
    places = [_number(name, classes) for name in data.classes] if data.has_scores else []
    if len(classes) == 1:
        places = [0]
    named = []
    for row in rows.rows:
        example = data.examples[row.index]
        if example.scores is None:
            named.append(replace(row, label=_number(str(example.label), classes)))
        else:
            by_output = sorted(zip(places, example.scores, strict=True))
            named.append(replace(row, scores=tuple(score for _, score in by_output)))
    return request.collated(replace(rows, rows=tuple(named)), class_batch)


def _number(label: str, classes: Mapping[str, int]) -> int:
    """Return the number of the class that `label` names, or is the number of.

    Raises:
        UnknownNameError: It is neither.
    """
    if label in classes:
        return classes[label]
    if label.isdecimal() and int(label) < len(classes):
        return int(label)
    raise UnknownNameError(what="label", value=label, known=classes)


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
