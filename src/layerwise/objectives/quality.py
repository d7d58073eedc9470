"""How well classes are told apart, beside the loss: figures that people know."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

__all__ = ["CLASS_QUALITIES", "class_quality"]

#: The classes that rows were taken for, and their own; each as long as there are rows.
_Classes = np.ndarray


def _accuracy(predicted: _Classes, actual: _Classes) -> float:
    """Return the share of rows that were taken for their own class."""
    return float(np.mean(predicted == actual))


def _macro_f1(predicted: _Classes, actual: _Classes) -> float:
    """Return the mean, over the classes that occur on either side, of each one's F1."""
    return float(np.mean([_f1(predicted == c, actual == c) for c in {*predicted, *actual}]))


def _f1(predicted: np.ndarray, actual: np.ndarray) -> float:
    """Return 2 TP / (2 TP + FP + FN), of rows that were and that should be taken for one class."""
    return float(2 * np.sum(predicted & actual) / (np.sum(predicted) + np.sum(actual)))


CLASS_QUALITIES: Mapping[str, Callable[[_Classes, _Classes], float]] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
}
"""Each figure by its name; larger is better, and 1 is the best."""


def class_quality(predicted: Sequence[int], actual: Sequence[int]) -> dict[str, float]:
    """Return each of `CLASS_QUALITIES`: ``accuracy``, and ``macro_f1``, where classes count alike.

    Args:
        predicted: The class that each row was taken for.
        actual: Its own.

    Raises:
        ValueError: They are not of one length, or empty.
    """
    if len(predicted) != len(actual) or not len(actual):
        message = f"{len(predicted)} predictions for {len(actual)} rows"
        raise ValueError(message)
    sides = np.asarray(predicted), np.asarray(actual)
    return {name: figure(*sides) for name, figure in CLASS_QUALITIES.items()}
