"""Rivals trained in pairs: what each gives under each seed, or at each learning rate."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from layerwise.progress import Progress

__all__ = ["train_rivals"]

R = TypeVar("R")
W = TypeVar("W")
T = TypeVar("T")


def train_rivals(
    rivals: Iterable[R],
    ways: Sequence[W],
    train: Callable[[R, W], T],
    *,
    title: str,
    progress: Progress,
) -> dict[R, dict[W, T]]:
    """Return what `train` gives for each rival in each way; equal rivals are trained once.

    All rivals go one way before the next way begins: machines drift, and rivals are compared.
    """
    each = list(dict.fromkeys(rivals))
    jobs = [(rival, way) for way in dict.fromkeys(ways) for rival in each]
    made: dict[R, dict[W, T]] = {rival: {} for rival in each}
    for rival, way in progress(jobs, title, len(jobs)):
        made[rival][way] = train(rival, way)
    return made
