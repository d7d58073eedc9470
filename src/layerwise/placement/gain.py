"""What adapters on a set of blocks are predicted to gain: what the policies ``gain`` go by.

Of the predictors that look at a signal, this one agreed best with measured improvements
(docs/evidence.md, where it is called ``adam-nearness``).
"""

from collections.abc import Callable, Sequence

import numpy as np

from layerwise.card.record import LayerCard
from layerwise.errors import PlacementError
from layerwise.signals.gain import pulls


def predicted_gain(card: LayerCard, rows: Sequence[int]) -> float:
    """Return Adam's gains of all blocks, each less the farther the nearest of `rows` is.

    To twelve digits: the order of a sum must not rank sets that are equal by the formula.

    Raises:
        PlacementError: The card lacks its Gram matrices.
    """
    return predictor(card)(rows)


def predictor(card: LayerCard) -> Callable[[Sequence[int]], float]:
    """Return `predicted_gain` of one card, whose gains are computed once for all sets.

    Raises:
        PlacementError: The card lacks its Gram matrices.
    """
    gains = adam_gains(card)
    return lambda rows: float(f"{float((1.0 - distances(card, rows)) @ gains):.12g}")


def distances(card: LayerCard, rows: Sequence[int]) -> np.ndarray:
    """Return the way from each block to the nearest of `rows`, as a share of the depth, (l,)."""
    depths = np.arange(len(card.layers)) / max(len(card.layers) - 1, 1)
    return np.asarray(np.abs(depths[:, None] - depths[None, list(rows)]).min(axis=1))


def adam_gains(card: LayerCard) -> np.ndarray:
    """Return the first-order gain of a step of Adam in each block, (l,); 0 where it would lose.

    Raises:
        PlacementError: The card lacks its Gram matrices.
    """
    return np.asarray(np.maximum(pulls(card_gram(card, "adam_gram")).mean(axis=0), 0.0))


def card_gram(card: LayerCard, name: str) -> np.ndarray:
    """Return the Gram matrices called `name` of the card's arrays, float64 (l, n, n).

    Raises:
        PlacementError: The card has none, or has those of another card.
    """
    gram = card.arrays.get(name)
    if gram is None:
        msg = "no prediction without the Gram matrices of the card's arrays"
        expected = card.absent.get("gain", f"arrays.safetensors beside card.json, with '{name}'")
        raise PlacementError(msg, expected=expected, hint="--policy uniform, which needs none")
    if gram.ndim != 3 or gram.shape[0] != len(card.layers):
        msg = "Gram matrices that are not this card's"
        raise PlacementError(msg, value=gram.shape, expected=f"one for each of {len(card.layers)}")
    return np.asarray(gram, dtype=np.float64)
