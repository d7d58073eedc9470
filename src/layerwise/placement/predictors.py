"""What adapters on a set of blocks are predicted to gain, by name: numbers to rank sets with.

A predictor looks at a card alone. Those of geometry look at the depths of the blocks, those of one
signal add it up, the rest join signal and coupling. Which of them to trust is not for them to say:
`layerwise.evidence.calibrate` holds them against measured improvements. The policies ``gain`` and
``gain-per-cost`` go by the one named `PREFERRED`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from layerwise.card.record import LayerCard
from layerwise.errors import PlacementError
from layerwise.registry import Registry
from layerwise.signals.gain import additive_gain, coupled_gain
from layerwise.signals.joint import (
    determinant,
    held_out_gain,
    line_gain,
    pulls,
    represented,
)

__all__ = ["PREDICTORS", "PREFERRED", "Predictor"]

Score = Callable[[LayerCard, Sequence[int], float], float]


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
        """The prediction for adapters on `rows` of `card`, at least one, to twelve digits.

        Raises:
            PlacementError: The card lacks what the predictor goes by.
            BadInputError: `damping` is not positive.
        """
        # The order of a sum must not rank sets that are equal by the formula.
        return float(f"{self.score(card, rows, damping):.12g}")


PREDICTORS = Registry[Predictor]("predictor")

#: What the policies ``gain`` and ``gain-per-cost`` go by: of what looks at a signal, what agreed
#: best with measured improvements (docs/evidence.md).
PREFERRED = "adam-nearness"


def _predictor(name: str, **traits: bool) -> Callable[[Score], Score]:
    """Register what it decorates as the predictor `name`, its docstring's first line a summary."""

    def add(score: Score) -> Score:
        summary = (score.__doc__ or "").partition("\n")[0].strip()
        PREDICTORS.add(name, Predictor(name, summary, score, **traits))
        return score

    return add


def _gram(card: LayerCard, name: str = "gram") -> np.ndarray:
    """Gram matrices of the card's arrays (l, n, n), float64."""
    gram = card.arrays.get(name)
    if gram is None:
        msg = "no prediction without the Gram matrices of the card's arrays"
        expected = card.absent.get("gain", f"arrays.safetensors beside card.json, with '{name}'")
        raise PlacementError(msg, expected=expected, hint="--policy uniform, which needs none")
    if gram.ndim != 3 or gram.shape[0] != len(card.layers):
        msg = "Gram matrices that are not this card's"
        raise PlacementError(msg, value=gram.shape, expected=f"one for each of {len(card.layers)}")
    return np.asarray(gram, dtype=np.float64)


def _adam(card: LayerCard) -> np.ndarray:
    return _gram(card, "adam_gram")


def _per_trace(gram: np.ndarray, power: float) -> np.ndarray:
    """Each matrix divided by its trace to `power`; one of zeros stays as it is."""
    traces = np.einsum("lii->l", gram)
    scale = np.power(np.where(traces > 0.0, traces, 1.0), power)
    return np.asarray(gram / scale[:, None, None])


def _summed(card: LayerCard, rows: Sequence[int], column: str) -> float:
    values = card.column(column)[list(rows)]
    if np.isfinite(values).all():
        return float(values.sum())
    lacking = card.layers[rows[int(np.argmin(np.isfinite(values)))]].name
    msg = f"no prediction without {column}, which {lacking} lacks"
    raise PlacementError(msg, hint="--policy uniform, which needs no signal")


def _relative(card: LayerCard, rows: Sequence[int]) -> np.ndarray:
    """Depths of `rows`, 0 for the first block and 1 for the last."""
    return np.asarray(list(rows), dtype=np.float64) / max(len(card.layers) - 1, 1)


# -- geometry --------------------------------------------------------------------------------------


@_predictor("lowest", is_gain=False, is_geometry=True)
def _lowest(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    """How deep under the output the lowest block is."""
    return 1.0 - float(_relative(card, rows).min())


@_predictor("spread", is_gain=False, is_geometry=True)
def _spread(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    """The standard deviation of the blocks' depths."""
    return float(_relative(card, rows).std())


@_predictor("nearness", is_gain=False, is_geometry=True)
def _nearness(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    """How near all blocks are to one with an adapter, above or below: minus the mean distance."""
    return -float(_distances(card, rows).mean())


def _distances(card: LayerCard, rows: Sequence[int]) -> np.ndarray:
    """From each block to the nearest of `rows`, as a share of the depth."""
    depths = _relative(card, range(len(card.layers)))
    return np.asarray(np.abs(depths[:, None] - _relative(card, rows)[None, :]).min(axis=1))


@_predictor("coverage", is_damped=True, is_geometry=True)
def _coverage(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """How many blocks have an adapter close below them, fading over `damping` of the depth."""
    return float(_reached(card, rows, damping).sum())


def _reached(card: LayerCard, rows: Sequence[int], damping: float) -> np.ndarray:
    """exp(-distance / (damping * l)) from each block down to the nearest of `rows`; 0 with none."""
    size = len(card.layers)
    below = np.arange(size)[:, None] - np.asarray(sorted(rows))[None, :]
    nearest = np.where(below >= 0, below, np.inf).min(axis=1)
    return np.asarray(np.exp(-nearest / (damping * size)))


# -- one signal, added up --------------------------------------------------------------------------


@_predictor("residual-norm")
def _residual_norm(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    """The sum of residual norms (arXiv 2602.04019)."""
    return _summed(card, rows, "residual_norm")


@_predictor("gradient-norm")
def _gradient_norm(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    """The sum of mean per-example norms of the raw adapter gradient."""
    squares = np.maximum(np.einsum("lii->li", _gram(card)), 0.0)
    return float(np.sqrt(squares).mean(axis=1)[list(rows)].sum())


@_predictor("adam-sum")
def _adam_sum(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    """The sum of first-order gains of a step of Adam, examples held out one by one."""
    return float(pulls(_adam(card)).mean(axis=0)[list(rows)].sum())


# -- coupled gains ---------------------------------------------------------------------------------


@_predictor("gain", is_damped=True)
def _gain(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """The coupled gain Delta(S)."""
    return coupled_gain(_gram(card), rows, damping=damping)


@_predictor("gain-per-trace", is_damped=True)
def _gain_per_trace(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """The coupled gain, every block's gradients of one mean square."""
    return coupled_gain(_per_trace(_gram(card), 1.0), rows, damping=damping)


@_predictor("gain-per-root-trace", is_damped=True)
def _gain_per_root_trace(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """The coupled gain, every block's gradients divided by the root of their norm."""
    return coupled_gain(_per_trace(_gram(card), 0.5), rows, damping=damping)


@_predictor("additive", is_damped=True)
def _additive(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """The sum of the gains of the blocks alone."""
    return additive_gain(_gram(card), rows, damping=damping)


@_predictor("additive-per-trace", is_damped=True)
def _additive_per_trace(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """The sum of the gains of the blocks alone, every block's gradients of one mean square."""
    return additive_gain(_per_trace(_gram(card), 1.0), rows, damping=damping)


# -- for steps without a scale, such as Adam's -----------------------------------------------------


@_predictor("adam-gain", is_damped=True)
def _adam_gain(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """The coupled gain in Adam's coordinates."""
    return coupled_gain(_adam(card), rows, damping=damping)


@_predictor("adam-held-out", is_damped=True)
def _adam_held_out(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """The coupled gain in Adam's coordinates on examples that the step has not seen."""
    return held_out_gain(_adam(card), rows, damping=damping)


@_predictor("adam-line", is_damped=True)
def _adam_line(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """The gain of one joint step of Adam, all blocks at one rate."""
    return line_gain(_adam(card), rows, damping=damping)


@_predictor("adam-determinant", is_damped=True, is_gain=False)
def _adam_determinant(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """Adam's gains and how unlike the blocks are, as the logarithm of a determinant."""
    return determinant(_adam(card), rows, damping=damping)


@_predictor("adam-represented")
def _adam_represented(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    """Adam's gains of all blocks, by how alike the most alike adapted block is."""
    return represented(_adam(card), rows)


@_predictor("adam-coverage", is_damped=True)
def _adam_coverage(card: LayerCard, rows: Sequence[int], damping: float) -> float:
    """Adam's gains of all blocks, fading with the distance to the nearest adapter below."""
    return float(_reached(card, rows, damping) @ _adam_gains(card))


@_predictor("adam-nearness")
def _adam_nearness(card: LayerCard, rows: Sequence[int], _damping: float) -> float:
    """Adam's gains of all blocks, each less the farther the nearest adapter, above or below."""
    return float((1.0 - _distances(card, rows)) @ _adam_gains(card))


def _adam_gains(card: LayerCard) -> np.ndarray:
    """First-order gains of a step of Adam in each block; 0 where it would lose."""
    return np.asarray(np.maximum(pulls(_adam(card)).mean(axis=0), 0.0))
