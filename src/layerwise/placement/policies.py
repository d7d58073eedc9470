"""Which blocks to adapt: each function here chooses `k` of the rows that it is offered.

A row in `layerwise.placement` makes it a policy.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from layerwise.card.record import LayerCard
from layerwise.errors import PlacementError
from layerwise.placement.cost import step_cost
from layerwise.placement.gain import predictor
from layerwise.placement.ski import (
    InflectionSettings,
    around,
    inflection_order,
    suppressed,
)
from layerwise.seeds import draw
from layerwise.signals.saturation import inflection

_PLAIN = InflectionSettings()


def _column(card: LayerCard, name: str, rows: Sequence[int], policy: str) -> np.ndarray:
    """Return a column over `rows`, which must all have it."""
    values = card.column(name)[list(rows)]
    if np.isfinite(values).all():
        return values
    missing = rows[int(np.argmin(np.isfinite(values)))]
    block = card.layers[missing].name
    msg = f"policy {policy!r} needs {name}, which {block} lacks"
    msg += f" ({card.absent[name]})" if name in card.absent else ""
    raise PlacementError(msg, hint="--policy uniform, which needs no signal")


def _by_residual_norm(card: LayerCard, rows: Sequence[int], policy: str) -> list[int]:
    """Return `rows` with the largest residual norm first, the lower block on ties."""
    norms = _column(card, "residual_norm", rows, policy)
    return [rows[p] for p in np.argsort(-norms, kind="stable")]


def top(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Return the largest residual norms. Source: arXiv 2602.04019."""
    return _by_residual_norm(card, rows, "top")[:k]


def mid(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Return the k ranks around the middle, the larger norms where it cannot be even."""
    start = (len(rows) - k) // 2
    return _by_residual_norm(card, rows, "mid")[start : start + k]


def bottom(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Return the smallest residual norms, the upper block on ties: the end of the one ranking."""
    return _by_residual_norm(card, rows, "bottom")[-k:]


def uniform(_card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Evenly spread over depth, both ends included; one is the lowest."""
    last = len(rows) - 1
    return [rows[(2 * i * last + k - 1) // (2 * (k - 1)) if k > 1 else 0] for i in range(k)]


def midpoints(_card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Return the middles of `k` equal parts of depth: no mean distance to an adapter is smaller."""
    return [rows[(2 * i + 1) * len(rows) // (2 * k)] for i in range(k)]


def random(_card: LayerCard, k: int, rows: Sequence[int], seed: int) -> Iterable[int]:
    """Any, by the seed; more layers of one seed contain its fewer."""
    return [rows[p] for p in draw(len(rows), k, seed, "placement", "random")]


def first(_card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Return the lowest: the costliest backward."""
    return rows[:k]


def last(_card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Return the highest: the cheapest backward."""
    return rows[-k:]


def _ski_band(
    card: LayerCard, rows: Sequence[int], policy: str, how: InflectionSettings
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return SKI over `rows`, and the positions of the band in the order in which it is taken."""
    entropy = _column(card, "attention_entropy", rows, policy)
    gradient = _column(card, "activation_gradient", rows, policy)
    values = inflection(entropy, gradient, alpha=how.alpha)
    stacks = [card.layers[row].stack for row in rows]
    if policy == "ski":
        return values, inflection_order(values, stacks, reach=how.reach)
    centres = suppressed(entropy, gradient, threshold=how.threshold)
    return values, around(centres, stacks, reach=how.reach)


def _by_ski(
    card: LayerCard, k: int, rows: Sequence[int], policy: str, how: InflectionSettings
) -> list[int]:
    """Return `k` of the rows of the band, then of every other by falling SKI."""
    values, band = _ski_band(card, rows, policy, how)
    rest = np.argsort(-values, kind="stable")
    return [rows[p] for p in dict.fromkeys([*band, *(int(p) for p in rest)])][:k]


def ski(
    card: LayerCard,
    k: int,
    rows: Sequence[int],
    _seed: int,
    *,
    how: InflectionSettings = _PLAIN,
) -> Iterable[int]:
    """Local maxima of SKI and their neighbours. Source: arXiv 2511.00797."""
    return _by_ski(card, k, rows, "ski", how)


def ski_size(card: LayerCard, rows: Sequence[int], *, how: InflectionSettings = _PLAIN) -> int:
    """Return how many blocks the band of SKI has.

    Raises:
        PlacementError: It has none.
    """
    size = len(_ski_band(card, rows, "ski", how)[1])
    if size == 0:
        msg = "policy 'ski' finds no layer: SKI is the same in every block"
        raise PlacementError(msg, hint="--policy uniform, or a number of --layers")
    return size


def ski_greedy(
    card: LayerCard,
    k: int,
    rows: Sequence[int],
    _seed: int,
    *,
    how: InflectionSettings = _PLAIN,
) -> Iterable[int]:
    """The most saturated and the first suppressed block, and their neighbours. Source: same."""
    return _by_ski(card, k, rows, "ski-greedy", how)


def ski_greedy_size(
    card: LayerCard, rows: Sequence[int], *, how: InflectionSettings = _PLAIN
) -> int:
    """Return how many blocks the greedy variant's band has."""
    return len(_ski_band(card, rows, "ski-greedy", how)[1])


def gain(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Greedy maximisation of the predicted gain. Source: docs/methods.md."""
    return _greedy(card, k, rows, price=lambda _rows: 1.0)


def gain_per_cost(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Greedy maximisation of the predicted gain for each second that a step takes."""
    return _greedy(card, k, rows, price=step_cost(card).seconds)


def _greedy(
    card: LayerCard, k: int, rows: Sequence[int], *, price: Callable[[Sequence[int]], float]
) -> list[int]:
    """Return one row after the other, each the one that makes prediction over price the largest."""
    chosen, predicted = list[int](), predictor(card)
    for _ in range(k):
        left = [row for row in rows if row not in chosen]
        sets = [[*chosen, row] for row in left]
        scores = [predicted(some) / price(some) for some in sets]
        chosen.append(left[int(np.argmax(scores))])
    return chosen
