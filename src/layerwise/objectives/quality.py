"""How well classes are told apart, beside the loss: figures that people know."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def class_quality(predicted: Sequence[Any], actual: Sequence[Any]) -> dict[str, float]:
    """Return ``accuracy``, and ``macro_f1``: the mean over the classes on either side of their F1.

    Larger is better, and 1 is the best. Rows were taken for the `predicted` classes. Of labels that
    may hold together, a list a row, the accuracy is over all of them. Scores have neither.

    Raises:
        ValueError: They are not of one length, or empty.
    """
    if len(predicted) != len(actual) or not len(actual):
        message = f"{len(predicted)} predictions for {len(actual)} rows"
        raise ValueError(message)
    taken, own = np.asarray(predicted), np.asarray(actual)
    if taken.ndim == 2 and taken.shape[1] == 1:
        return {}
    accuracy = float(np.mean(taken == own))
    if taken.ndim == 1:  # A column a class, as labels that may hold together have.
        classes = np.unique([taken, own])
        taken, own = (1.0 * np.equal.outer(values, classes) for values in (taken, own))
    told = [(a, b) for a, b in zip(taken.T, own.T, strict=True) if (a + b).any()]
    each = [2 * np.sum(a * b) / np.sum(a + b) for a, b in told]
    return {"accuracy": accuracy, "macro_f1": float(np.mean(each)) if each else 1.0}
