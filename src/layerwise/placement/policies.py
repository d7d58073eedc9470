"""Which blocks to adapt: every policy chooses `k` of the rows that it is offered."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from layerwise.card.record import LayerCard
from layerwise.errors import PlacementError
from layerwise.placement.cost import step_cost
from layerwise.placement.gain import predicted_gain
from layerwise.placement.ski import around, inflection, inflection_order, suppressed
from layerwise.registry import Registry
from layerwise.seeds import numpy_generator

__all__ = ["POLICIES", "Policy", "default_size"]


class Policy(Protocol):
    """A way to choose blocks."""

    def __call__(
        self, card: LayerCard, k: int | None, *, rows: Sequence[int], seed: int = 0
    ) -> tuple[int, ...]:
        """`k` of `rows` (None: the policy's own number), ascending.

        Args:
            card: What was measured.
            k: How many rows to choose.
            rows: The rows to choose from, ascending: positions in `card.layers`.
            seed: Fixes what is random.

        Raises:
            PlacementError: There are no `k` rows, or the card lacks what the policy goes by.
        """


Choose = Callable[[LayerCard, int, Sequence[int], int], Iterable[int]]
Size = Callable[[LayerCard, Sequence[int]], int]

#: Every policy by name.
POLICIES = Registry[Policy]("policy")


def default_size(rows: Sequence[int]) -> int:
    """A sixth of `rows`, rounded up (ours)."""
    return -(-len(rows) // 6)


def _sixth(_card: LayerCard, rows: Sequence[int]) -> int:
    return default_size(rows)


def _policy(name: str, *, size: Size = _sixth) -> Callable[[Choose], Choose]:
    """Register what it decorates as the policy `name`, which takes `size` rows by default."""

    def add(choose: Choose) -> Choose:
        def policy(
            card: LayerCard, k: int | None, *, rows: Sequence[int], seed: int = 0
        ) -> tuple[int, ...]:
            _check_size(k, rows)
            taken = size(card, rows) if k is None else k
            return tuple(sorted(int(row) for row in choose(card, taken, rows, seed)))

        POLICIES.add(name, policy)
        return choose

    return add


def _check_size(k: int | None, rows: Sequence[int]) -> None:
    if not rows:
        msg = "no block to choose from"
        raise PlacementError(msg, expected="a card with adapted modules")
    if k is not None and not 1 <= k <= len(rows):
        msg = "number of layers"
        raise PlacementError(
            msg,
            value=k,
            expected=f"1 to {len(rows)}, the blocks that can be adapted",
            hint=f"--layers {default_size(rows)}",
        )


def _column(card: LayerCard, name: str, rows: Sequence[int], policy: str) -> np.ndarray:
    """A column over `rows`, which must all have it."""
    values = card.column(name)[list(rows)]
    if np.isfinite(values).all():
        return values
    missing = rows[int(np.argmin(np.isfinite(values)))]
    block = card.layers[missing].name
    msg = f"policy {policy!r} needs {name}, which {block} lacks"
    msg += f" ({card.absent[name]})" if name in card.absent else ""
    raise PlacementError(msg, hint="--policy uniform, which needs no signal")


def _by_residual_norm(card: LayerCard, rows: Sequence[int], policy: str) -> list[int]:
    """`rows` with the largest residual norm first, the lower block on ties."""
    norms = _column(card, "residual_norm", rows, policy)
    return [rows[p] for p in np.argsort(-norms, kind="stable")]


@_policy("top")
def _top(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """The largest residual norms. Source: arXiv 2602.04019."""
    return _by_residual_norm(card, rows, "top")[:k]


@_policy("mid")
def _mid(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """The k ranks around the middle, the larger norms where it cannot be even."""
    start = (len(rows) - k) // 2
    return _by_residual_norm(card, rows, "mid")[start : start + k]


@_policy("bottom")
def _bottom(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """The smallest residual norms, the upper block on ties: the end of the one ranking."""
    return _by_residual_norm(card, rows, "bottom")[-k:]


@_policy("uniform")
def _uniform(_card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Evenly spread over depth, both ends included; one is the lowest."""
    last = len(rows) - 1
    return [rows[(2 * i * last + k - 1) // (2 * (k - 1)) if k > 1 else 0] for i in range(k)]


@_policy("midpoints")
def _midpoints(_card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """The middles of `k` equal parts of depth: no mean distance to an adapter is smaller."""
    return [rows[(2 * i + 1) * len(rows) // (2 * k)] for i in range(k)]


@_policy("random")
def _random(_card: LayerCard, k: int, rows: Sequence[int], seed: int) -> Iterable[int]:
    """Any, by the seed; more layers of one seed contain its fewer."""
    order = numpy_generator(seed, "placement", "random").permutation(len(rows))
    return [rows[p] for p in order[:k]]


@_policy("first")
def _first(_card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """The lowest: the costliest backward."""
    return rows[:k]


@_policy("last")
def _last(_card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """The highest: the cheapest backward."""
    return rows[-k:]


def _ski_band(card: LayerCard, rows: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """SKI over `rows`, and the positions of its band in the order in which they are taken."""
    entropy = _column(card, "attention_entropy", rows, "ski")
    gradient = _column(card, "activation_gradient", rows, "ski")
    values = inflection(entropy, gradient)
    return values, inflection_order(values, _segments(card, rows))


def _greedy_band(card: LayerCard, rows: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """SKI over `rows`, and the positions of the greedy variant's band."""
    entropy = _column(card, "attention_entropy", rows, "ski-greedy")
    gradient = _column(card, "activation_gradient", rows, "ski-greedy")
    centres = suppressed(entropy, gradient)
    return inflection(entropy, gradient), around(centres, _segments(card, rows))


def _segments(card: LayerCard, rows: Sequence[int]) -> list[str]:
    return [card.layers[row].stack for row in rows]


def _filled(values: np.ndarray, band: Sequence[int]) -> list[int]:
    """`band`, then every other position by falling SKI."""
    rest = np.argsort(-values, kind="stable")
    return list(dict.fromkeys([*band, *(int(p) for p in rest)]))


def _ski_size(card: LayerCard, rows: Sequence[int]) -> int:
    size = len(_ski_band(card, rows)[1])
    if size == 0:
        msg = "policy 'ski' finds no layer: SKI is the same in every block"
        raise PlacementError(msg, hint="--policy uniform, or a number of --layers")
    return size


@_policy("ski", size=_ski_size)
def _ski(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Local maxima of SKI and their neighbours. Source: arXiv 2511.00797."""
    return [rows[p] for p in _filled(*_ski_band(card, rows))[:k]]


@_policy("ski-greedy", size=lambda card, rows: len(_greedy_band(card, rows)[1]))
def _ski_greedy(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """The most saturated and the first suppressed block, and their neighbours. Source: same."""
    return [rows[p] for p in _filled(*_greedy_band(card, rows))[:k]]


@_policy("gain")
def _gain(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Greedy maximisation of the predicted gain. Source: docs/methods.md."""
    return _greedy(card, k, rows, price=lambda _rows: 1.0)


@_policy("gain-per-cost")
def _gain_per_cost(card: LayerCard, k: int, rows: Sequence[int], _seed: int) -> Iterable[int]:
    """Greedy maximisation of the predicted gain for each second that a step takes."""
    return _greedy(card, k, rows, price=step_cost(card).seconds)


def _greedy(
    card: LayerCard, k: int, rows: Sequence[int], *, price: Callable[[Sequence[int]], float]
) -> list[int]:
    """One row after the other, each the one that makes prediction over price the largest."""
    chosen = list[int]()
    for _ in range(k):
        left = [row for row in rows if row not in chosen]
        sets = [[*chosen, row] for row in left]
        scores = [predicted_gain(card, some) / price(some) for some in sets]
        chosen.append(left[int(np.argmax(scores))])
    return chosen


@_policy("all", size=lambda _card, rows: len(rows))
def _all(card: LayerCard, k: int, rows: Sequence[int], seed: int) -> Iterable[int]:
    """Every row; of fewer, those evenly spread."""
    return _uniform(card, k, rows, seed)
