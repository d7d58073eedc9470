"""Rank agreement of numbers over sets of blocks of several sizes, and how sure it is.

A larger set gains more whatever it consists of, so sets are ranked among those of their own size
alone; the figure is the mean over sizes, weighted by how many sets there are of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from laboratory.calibration import NoiseCeiling
from layerwise.intervals import percentiles
from layerwise.seeds import numpy_generator
from layerwise.shapes import Array, Float64

#: Bootstrap resamples of the sets (ours).
RESAMPLES = 1000


#: Positions of sets, an array (draws, sets) for each size.
Draws = Sequence[np.ndarray]


@dataclass(frozen=True, eq=False)
class Strata:
    """Sets by their size.

    Attributes:
        members: The positions of the sets of each size.
    """

    members: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, sets: Sequence[Sequence[int]]) -> "Strata":
        """Return the strata of `sets`."""
        sizes = np.array([len(some) for some in sets])
        return cls(tuple(np.flatnonzero(sizes == size) for size in np.unique(sizes)))

    def agreement(self, first: np.ndarray, second: np.ndarray) -> float:
        """Return the rank correlation of two numbers a set, over all sets."""
        return float(agreements(first, second, [m[None] for m in self.members])[0])

    def resampled(self) -> Draws:
        """Return as many sets of each size drawn with replacement, always the same draws."""
        generator = numpy_generator(0, "sets", "bootstrap")
        return [generator.choice(m, size=(RESAMPLES, len(m))) for m in self.members]

    def halved(self, splits: int) -> tuple[Draws, Draws]:
        """Return random halves of the sets of each size, and the others; always the same ones."""
        generator = numpy_generator(0, "sets", "halves")
        mixed = [generator.permuted(np.tile(m, (splits, 1)), axis=1) for m in self.members]
        return ([m[:, : m.shape[1] // 2] for m in mixed], [m[:, m.shape[1] // 2 :] for m in mixed])

    def bootstrap(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the rank correlation over each of `RESAMPLES` resamples of the sets."""
        return agreements(first, second, self.resampled())


def agreements(first: np.ndarray, second: np.ndarray, draws: Draws) -> np.ndarray:
    """Return the rank correlation in each draw: the mean over sizes, weighted by sets."""
    parts = [row_spearman(first[drawn], second[drawn]) for drawn in draws]
    weights = [drawn.shape[1] for drawn in draws]
    return np.asarray(np.average(parts, axis=0, weights=weights))


def row_spearman(
    first: Float64[Array, "k n"], second: Float64[Array, "k n"]
) -> Float64[Array, "k"]:
    """Return Spearman's rank correlation of each row of `first` with `second`'s; 0 where flat."""
    x, y = (rankdata(v, axis=1) - (v.shape[1] + 1) / 2.0 for v in (first, second))
    scale = np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))
    products = np.einsum("kn,kn->k", x, y)
    return np.divide(products, scale, out=np.zeros(len(x)), where=scale > 0.0)


def ceiling(strata: Strata, improvements: np.ndarray) -> NoiseCeiling | None:
    """Return what noise allows any predictor, of (sets, seeds) improvements; None with one seed.

    With r the mean rank correlation between two of s seeds, the mean over all s agrees with that
    over s others at s r / (1 + (s - 1) r) (Spearman 1910, Brown 1910), and with what is true of
    the sets at the root of it. Seeds that do not agree at all leave a ceiling of 0.
    """
    seeds = improvements.shape[1]
    if seeds < 2:
        return None
    pairs = list(combinations(np.asarray(improvements.T), 2))
    between = float(np.mean([strata.agreement(a, b) for a, b in pairs]))
    resampled = np.mean([strata.bootstrap(a, b) for a, b in pairs], axis=0)
    reliable = _reliability(np.array([between]), seeds)[0]
    low, high = percentiles(np.sqrt(_reliability(resampled, seeds)))
    return NoiseCeiling(between, float(reliable), float(reliable**0.5), low, high)


def _reliability(between: np.ndarray, seeds: int) -> np.ndarray:
    positive = np.maximum(between, 0.0)
    return np.asarray(seeds * positive / (1.0 + (seeds - 1) * positive))
