"""How well classes are told apart, beside the loss: figures that people know."""

from collections.abc import Sequence

import numpy as np


def class_quality(predicted: Sequence[int], actual: Sequence[int]) -> dict[str, float]:
    """Return ``accuracy``, and ``macro_f1``: the mean over the classes on either side of their F1.

    Larger is better, and 1 is the best. Rows were taken for the `predicted` classes.

    Raises:
        ValueError: They are not of one length, or empty.
    """
    if len(predicted) != len(actual) or not len(actual):
        message = f"{len(predicted)} predictions for {len(actual)} rows"
        raise ValueError(message)
    taken, own = np.asarray(predicted), np.asarray(actual)
    each = [
        2 * np.sum((taken == c) & (own == c)) / (np.sum(taken == c) + np.sum(own == c))
        for c in {*predicted, *actual}
    ]
    return {"accuracy": float(np.mean(taken == own)), "macro_f1": float(np.mean(each))}
