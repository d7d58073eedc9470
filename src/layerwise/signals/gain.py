"""Coupled gain: how much one damped natural-gradient step on adapters of some blocks would gain.

Source: docs/methods.md (from arXiv 2602.04019, theorem 5.2). With G_l the (n, D_l) per-example
adapter gradients of block l, the empirical Fisher F_S = G_S^T G_S / n as curvature and the mean
gradient g_S = G_S^T u, u = 1/n,

    Delta(S) = 1/2 g_S^T (F_S + lambda I)^-1 g_S = 1/2 u^T K_S (K_S / n + lambda I)^-1 u,

where K_S is the sum over S of the Gram matrices K_l = G_l G_l^T: all work is in example space.
lambda = damping * mean over blocks of trace(K_l) / n is relative, so that the gain does not depend
on the scale of the loss, and the same for every S, so that gains of different sets compare.
"""

from collections.abc import Sequence

import numpy as np

from layerwise.errors import BadInputError
from layerwise.shapes import Array, Float64

__all__ = [
    "DAMPING",
    "additive_gain",
    "coupled_gain",
    "coupling",
    "damping_scale",
    "single_gains",
]

#: Relative damping (ours): a tenth of the mean squared gradient norm of a block.
DAMPING = 0.1


def damping_scale(gram: Float64[Array, "l n n"]) -> float:
    """The mean over blocks of trace(K_l) / n: a block's mean squared per-example gradient norm."""
    return float(np.einsum("lii->", gram) / (gram.shape[0] * gram.shape[1]))


def coupled_gain(
    gram: Float64[Array, "l n n"], rows: Sequence[int], *, damping: float = DAMPING
) -> float:
    """Delta(S) of the blocks `rows` taken together, in units of the loss; 0 for none.

    Never falls when a block is added. Where no block has any gradient it is 0.

    Raises:
        BadInputError: `damping` is not positive.
    """
    chosen = gram[list(rows)].sum(axis=0, keepdims=True)
    return float(_gains(chosen, _lambda(gram, damping))[0])


def single_gains(gram: Float64[Array, "l n n"], *, damping: float = DAMPING) -> Float64[Array, "l"]:
    """Delta({l}) of each block alone.

    Raises:
        BadInputError: `damping` is not positive.
    """
    return _gains(gram, _lambda(gram, damping))


def additive_gain(
    gram: Float64[Array, "l n n"], rows: Sequence[int], *, damping: float = DAMPING
) -> float:
    """The sum of single gains over `rows`: what Delta would be if blocks did not interact.

    Raises:
        BadInputError: `damping` is not positive.
    """
    return float(single_gains(gram, damping=damping)[list(rows)].sum())


def coupling(
    gram: Float64[Array, "l n n"], rows: Sequence[int], *, damping: float = DAMPING
) -> float:
    """rho_S = 1 - Delta(S) / additive gain (ours), at most 1.

    Positive where the blocks would correct the same error, 0 where each corrects its own (and
    where there is no gain at all), negative where together they correct what neither could alone.

    Raises:
        BadInputError: `damping` is not positive.
    """
    additive = additive_gain(gram, rows, damping=damping)
    return 1.0 - coupled_gain(gram, rows, damping=damping) / additive if additive > 0.0 else 0.0


def _lambda(gram: Float64[Array, "l n n"], damping: float) -> float:
    if not damping > 0.0:
        msg = "damping"
        raise BadInputError(msg, value=damping, expected="a number above 0")
    return damping * damping_scale(gram)


def _gains(sums: Float64[Array, "k n n"], ridge: float) -> Float64[Array, "k"]:
    """1/2 u^T K (K / n + ridge I)^-1 u for each K of `sums`."""
    count, n = sums.shape[:2]
    if not ridge > 0.0:
        return np.zeros(count)
    mean = np.full((count, n, 1), 1.0 / n)
    solved = np.linalg.solve(sums / n + ridge * np.eye(n), mean)[..., 0]
    pulled = np.einsum("kij,kj->ki", sums, solved)
    return np.asarray(0.5 * pulled.mean(axis=1), dtype=np.float64)
