"""Rank correlations that always give a number, for rankings of blocks."""

import numpy as np
import pandas as pd

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
    return float(np.clip(spearman_to(first, second[None])[0], -1.0, 1.0))


def spearman_to(
    reference: Float64[Array, "l"], replicates: Float64[Array, "k l"]
) -> Float64[Array, "k"]:
    """Return Spearman correlation of each replicate with the reference; 0 where one is flat."""
    ranks = pd.DataFrame(np.vstack([reference[None], replicates])).rank(axis=1).to_numpy()
    centred = ranks - ranks.mean(1, keepdims=True)
    fixed, others = centred[0], centred[1:]
    scale = np.sqrt((others * others).sum(1) * (fixed @ fixed))  # Exact where ranks are alike.
    return np.divide(others @ fixed, scale, out=np.zeros(len(others)), where=scale > 0)
