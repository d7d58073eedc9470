"""What adapters on a set of blocks are predicted to gain, by name: numbers to rank sets with.

A predictor looks at a card alone. Those of geometry look at the depths of the blocks, those of one
signal add it up, the rest join signal and coupling. Which of them to trust is not for them to say:
`laboratory.calibrate` holds them against measured improvements. The one that the advice goes by is
`layerwise.placement.gain`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from laboratory.gains import (
    additive_gain,
    coupled_gain,
    determinant,
    held_out_gain,
    line_gain,
    represented,
)
from layerwise.card.record import LayerCard
from layerwise.errors import PlacementError
from layerwise.placement.gain import adam_gains, card_gram, distances, predicted_gain
from layerwise.registry import Registry
from layerwise.signals.gain import pulls

Score = Callable[[LayerCard, Sequence[int], float], float]
SetGain = Callable[..., float]


@dataclass(frozen=True)
class Predictor:
    """A number for a set of blocks, larger where more improvement is predicted.

    Attributes:
        name: As registered.
        summary: What it is, in a line.
        score: ``score(card, rows, damping)``.
        is_damped: Whether the damping changes it.
        is_gain: Whether it is an amount of gain, so that it can be divided by a cost.
        is_geometry: Whether it looks at depths alone: what every other one has to beat.
    """

    name: str
    summary: str
    score: Score
    is_damped: bool = False
    is_gain: bool = True
    is_geometry: bool = False

    def __call__(self, card: LayerCard, rows: Sequence[int], *, damping: float) -> float:
        """Return the prediction for adapters on `rows` of `card`, at least one, to twelve digits.

        Raises:
            PlacementError: The card lacks what the predictor goes by.
            BadInputError: `damping` is not positive.
        """
        # The order of a sum must not rank sets that are equal by the formula.
        return float(f"{self.score(card, rows, damping):.12g}")


PREDICTORS = Registry[Predictor]("predictor")


def _add(name: str, summary: str, score: Score, **traits: bool) -> None:
    PREDICTORS.add(Predictor(name, summary, score, **traits))


# -- geometry --------------------------------------------------------------------------------------


def _depths(card: LayerCard, rows: Sequence[int]) -> np.ndarray:
    """Return the depths of `rows`, 0 for the first block and 1 for the last."""
    return np.asarray(list(rows), dtype=np.float64) / max(len(card.layers) - 1, 1)


def _reached(card: LayerCard, rows: Sequence[int], damping: float) -> np.ndarray:
    """Return exp(-distance / (damping * l)) from each block down to the nearest of `rows`.

    0 where there is none below.
    """
    size = len(card.layers)
    below = np.arange(size)[:, None] - np.asarray(sorted(rows))[None, :]
    nearest = np.where(below >= 0, below, np.inf).min(axis=1)
    return np.asarray(np.exp(-nearest / (damping * size)))


_geometry = {"is_gain": False, "is_geometry": True}
_add(
    "lowest",
    "How deep under the output the lowest block is.",
    lambda card, rows, _: 1.0 - float(_depths(card, rows).min()),
    **_geometry,
)
_add(
    "spread",
    "The standard deviation of the blocks' depths.",
    lambda card, rows, _: float(_depths(card, rows).std()),
    **_geometry,
)
_add(
    "nearness",
    "How near all blocks are to one with an adapter, above or below: minus the mean distance.",
    lambda card, rows, _: -float(distances(card, rows).mean()),
    **_geometry,
)
_add(
    "coverage",
    "How many blocks have an adapter close below them, fading over `damping` of the depth.",
    lambda card, rows, damping: float(_reached(card, rows, damping).sum()),
    is_damped=True,
    is_geometry=True,
)

# -- one signal, added up --------------------------------------------------------------------------


def _residual_norm(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    values = card.column("residual_norm")[list(rows)]
    if np.isfinite(values).all():
        return float(values.sum())
    lacking = card.layers[rows[int(np.argmin(np.isfinite(values)))]].name
    msg = f"no prediction without residual_norm, which {lacking} lacks"
    raise PlacementError(msg, hint="--policy uniform, which needs no signal")


def _gradient_norm(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    squares = np.maximum(np.einsum("lii->li", card_gram(card, "gram")), 0.0)
    return float(np.sqrt(squares).mean(axis=1)[list(rows)].sum())


def _adam_sum(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    return float(pulls(card_gram(card, "adam_gram")).mean(axis=0)[list(rows)].sum())


_add("residual-norm", "The sum of residual norms (arXiv 2602.04019).", _residual_norm)
_add(
    "gradient-norm",
    "The sum of mean per-example norms of the raw adapter gradient.",
    _gradient_norm,
)
_add(
    "adam-sum",
    "The sum of first-order gains of a step of Adam, examples held out one by one.",
    _adam_sum,
)

# -- coupled gains, and for steps without a scale, such as Adam's ----------------------------------


def _on(gain: SetGain, name: str, *, trace_power: float = 0.0) -> Score:
    """Return `gain` of the card's Gram matrices, each divided by its trace to `trace_power`."""

    def score(card: LayerCard, rows: Sequence[int], damping: float) -> float:
        gram = card_gram(card, name)
        if trace_power:
            traces = np.einsum("lii->l", gram)
            scale = np.power(np.where(traces > 0.0, traces, 1.0), trace_power)
            gram = np.asarray(gram / scale[:, None, None])
        return gain(gram, rows, damping=damping)

    return score


def _adam_coverage(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    return float(_reached(card, rows, damping) @ adam_gains(card))


_add("gain", "The coupled gain Delta(S).", _on(coupled_gain, "gram"), is_damped=True)
_add(
    "gain-per-trace",
    "The coupled gain, every block's gradients of one mean square.",
    _on(coupled_gain, "gram", trace_power=1.0),
    is_damped=True,
)
_add(
    "gain-per-root-trace",
    "The coupled gain, every block's gradients divided by the root of their norm.",
    _on(coupled_gain, "gram", trace_power=0.5),
    is_damped=True,
)
_add(
    "additive",
    "The sum of the gains of the blocks alone.",
    _on(additive_gain, "gram"),
    is_damped=True,
)
_add(
    "additive-per-trace",
    "The sum of the gains of the blocks alone, every block's gradients of one mean square.",
    _on(additive_gain, "gram", trace_power=1.0),
    is_damped=True,
)
_add(
    "adam-gain",
    "The coupled gain in Adam's coordinates.",
    _on(coupled_gain, "adam_gram"),
    is_damped=True,
)
_add(
    "adam-held-out",
    "The coupled gain in Adam's coordinates on examples that the step has not seen.",
    _on(held_out_gain, "adam_gram"),
    is_damped=True,
)
_add(
    "adam-line",
    "The gain of one joint step of Adam, all blocks at one rate.",
    _on(line_gain, "adam_gram"),
    is_damped=True,
)
_add(
    "adam-determinant",
    "Adam's gains and how unlike the blocks are, as the logarithm of a determinant.",
    _on(determinant, "adam_gram"),
    is_damped=True,
    is_gain=False,
)
_add(
    "adam-represented",
    "Adam's gains of all blocks, by how alike the most alike adapted block is.",
    lambda card, rows, _: represented(card_gram(card, "adam_gram"), rows),
)
_add(
    "adam-coverage",
    "Adam's gains of all blocks, fading with the distance to the nearest adapter below.",
    _adam_coverage,
    is_damped=True,
)
_add(
    "adam-nearness",
    "Adam's gains of all blocks, each less the farther the nearest adapter, above or below.",
    lambda card, rows, _: predicted_gain(card, rows),
)
