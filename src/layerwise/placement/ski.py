"""Inflection layers: where attention is saturated and the gradient suppressed.

Source: docs/methods.md (arXiv 2511.00797). What the paper leaves open is marked (ours).
Positions are those in the arrays given; `segments` names the stack of each position, since a
block has no neighbour in another stack.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from layerwise.signals.saturation import share_of_peak


@dataclass(frozen=True)
class InflectionSettings:
    """What the paper sets by hand.

    Attributes:
        alpha: The share of the entropy in SKI; the rest is the gradient's.
        reach: s, how many neighbours on either side belong to a band.
        threshold: G / max G below which a block of the greedy variant is suppressed.
    """

    alpha: float = 0.5
    reach: int = 1
    threshold: float = 0.25


def local_maxima(values: np.ndarray, segments: Sequence[object]) -> tuple[int, ...]:
    """Return the positions that exceed every neighbour, a segment's ends their only one.

    Equal values in a row are one peak, which stands at their middle, the lower of two (ours). A
    block alone in its segment is a maximum; a longer segment of equal values has none.
    """
    peaks = []
    for _, group in groupby(range(len(values)), key=lambda p: (segments[p], values[p])):
        run = list(group)
        beside = _neighbours(run[0], -1, segments) + _neighbours(run[-1], 1, segments)
        alone = len(run) == 1 and not beside
        if alone or (beside and all(values[p] < values[run[0]] for p in beside)):
            peaks.append(run[(len(run) - 1) // 2])
    return tuple(peaks)


def _neighbours(position: int, step: int, segments: Sequence[object]) -> list[int]:
    """Return the position `step` away, if it is one of the same segment."""
    other = position + step
    inside = 0 <= other < len(segments) and segments[other] == segments[position]
    return [other] if inside else []


def suppressed(
    entropy: np.ndarray, gradient: np.ndarray, *, threshold: float = 0.25
) -> tuple[int, ...]:
    """The centres of the greedy variant: argmin H, then the first G / max G below `threshold`.

    Where no gradient is that small, argmin H alone.
    """
    small = np.flatnonzero(share_of_peak(gradient) < threshold)
    return tuple(dict.fromkeys([int(np.argmin(entropy)), *(int(p) for p in small[:1])]))


def around(
    centres: Iterable[int], segments: Sequence[object], *, reach: int = 1
) -> tuple[int, ...]:
    """Return each centre followed by its neighbours, the nearest first, the lower before."""
    band: list[int] = []
    for centre in centres:
        band.append(centre)
        for step in range(1, reach + 1):
            band += _neighbours(centre, -step, segments) + _neighbours(centre, step, segments)
    return tuple(dict.fromkeys(band))


def inflection_order(
    values: np.ndarray, segments: Sequence[object], *, reach: int = 1
) -> tuple[int, ...]:
    """The bands of the local maxima of `values`, the highest first, lower positions on ties."""
    maxima = local_maxima(values, segments)
    return around(sorted(maxima, key=lambda p: (-values[p], p)), segments, reach=reach)
