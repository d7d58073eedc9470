"""Inflection layers: where attention is saturated and the gradient suppressed.

Source: docs/methods.md (arXiv 2511.00797). What the paper leaves open is marked (ours).
Positions are those in the arrays given; `segments` names the stack of each position, since a
block has no neighbour in another stack.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np


def inflection(entropy: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """SKI of each block in [0, 1]: (1 - H / max H) / 2 + (1 - G / max G) / 2.

    H is the attention entropy, G the norm of the activation gradient, both at least 0.
    """
    return 0.5 * (1.0 - _share(entropy)) + 0.5 * (1.0 - _share(gradient))


def _share(values: np.ndarray) -> np.ndarray:
    """Return `values` over their largest; all zeros stay zeros."""
    peak = float(values.max())
    return values / peak if peak > 0.0 else np.zeros_like(values)


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


def suppressed(entropy: np.ndarray, gradient: np.ndarray) -> tuple[int, ...]:
    """The centres of the greedy variant: argmin H, then the first G / max G below a quarter.

    Where no gradient is that small, argmin H alone.
    """
    small = np.flatnonzero(_share(gradient) < 0.25)
    return tuple(dict.fromkeys([int(np.argmin(entropy)), *(int(p) for p in small[:1])]))


def around(centres: Iterable[int], segments: Sequence[object]) -> tuple[int, ...]:
    """Return each centre followed by its neighbours, the lower first."""
    band: list[int] = []
    for centre in centres:
        band += [centre, *_neighbours(centre, -1, segments), *_neighbours(centre, 1, segments)]
    return tuple(dict.fromkeys(band))


def inflection_order(values: np.ndarray, segments: Sequence[object]) -> tuple[int, ...]:
    """The bands of the local maxima of `values`, the highest first, lower positions on ties."""
    maxima = local_maxima(values, segments)
    return around(sorted(maxima, key=lambda p: (-values[p], p)), segments)
