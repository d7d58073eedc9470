"""Rank correlations that always give a number, for rankings of blocks."""

import numpy as np
from scipy.stats import rankdata

from layerwise.errors import BadInputError
from layerwise.shapes import Array, Float64


def spearman(first: Float64[Array, "l"], second: Float64[Array, "l"]) -> float:
    """Return Spearman's rank correlation in [-1, 1], ties sharing their mean rank.

    Where all values of one side are equal (one block, say) there is no ranking to agree with, and
    the result is 0.0.

    Raises:
        BadInputError: A value is NaN or infinite, so has no rank.
    """
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        msg = "ranks of values that are not finite"
        raise BadInputError(msg, expected="a finite value for every block")
    x, y = (np.asarray(rankdata(v) - (v.size + 1) / 2.0) for v in (first, second))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip((x @ y) / scale, -1.0, 1.0)) if scale > 0.0 else 0.0


def spearman_to(
    reference: Float64[Array, "l"], replicates: Float64[Array, "k l"]
) -> Float64[Array, "k"]:
    """Return Spearman correlation of each replicate with the reference; 0 where one is flat."""
    ranks = rankdata(replicates, axis=1)
    ranks = ranks - ranks.mean(1, keepdims=True)
    fixed = rankdata(reference) - (len(reference) + 1) / 2
    scale = np.linalg.norm(ranks, axis=1) * np.linalg.norm(fixed)
    return np.divide(ranks @ fixed, scale, out=np.zeros(len(ranks)), where=scale > 0)
