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


def partial_spearman(
    first: Float64[Array, "l"], second: Float64[Array, "l"], fixed: Float64[Array, "l"]
) -> float | None:
    """Return the rank correlation of two sides with a third held `fixed`, in [-1, 1].

    It is that of what is left of their ranks after a line through those of `fixed`; None where
    nothing is left of a side.
    """
    ranks = centred_ranks(np.stack([first, second, fixed]))
    a, b, line = ranks / np.sqrt((ranks * ranks).sum(1, keepdims=True)).clip(1e-300)
    left, right = (side - (side @ line) * line for side in (a, b))
    sizes = float(np.linalg.norm(left)), float(np.linalg.norm(right))
    return float(left @ right) / (sizes[0] * sizes[1]) if min(sizes) > 1e-9 else None


def centred_ranks(rows: Float64[Array, "k l"]) -> Float64[Array, "k l"]:
    """Return the ranks in each row less their mean, equal values sharing theirs."""
    ranks = pd.DataFrame(rows).rank(axis=1).to_numpy()
    return np.asarray(ranks - (rows.shape[1] + 1) / 2.0)


def spearman_to(
    reference: Float64[Array, "l"], replicates: Float64[Array, "k l"]
) -> Float64[Array, "k"]:
    """Return Spearman correlation of each replicate with the reference; 0 where one is flat."""
    fixed, *_ = centred = centred_ranks(np.vstack([reference[None], replicates]))
    others = centred[1:]
    scale = np.sqrt((others * others).sum(1) * (fixed @ fixed))  # Exact where ranks are alike.
    return np.divide(others @ fixed, scale, out=np.zeros(len(others)), where=scale > 0)
