"""What a step on the adapters of a block would gain.

Source: docs/methods.md (from arXiv 2602.04019, theorem 5.2). With G_l the (n, D_l) per-example
adapter gradients of block l, the empirical Fisher F_l = G_l^T G_l / n as curvature and the mean
gradient g_l = G_l^T u, u = 1/n, one damped natural-gradient step gains

    1/2 g_l^T (F_l + lambda I)^-1 g_l = 1/2 u^T K_l (K_l / n + lambda I)^-1 u,

where K_l = G_l G_l^T is the Gram matrix: all work is in example space. lambda = damping * mean over
blocks of trace(K_l) / n is relative, so that the gain does not depend on the scale of the loss.

For an optimizer whose steps have no scale (ours): Adam divides each coordinate's step by the
coordinate's own root mean square v^(1/2), so in coordinates scaled by v^(-1/4) it is plain gradient
descent. There, the Gram matrix of block l's per-example adapter gradients is the card's
``adam_gram``,

    K_l[i, j] = sum over coordinates d of g_i,d g_j,d / v_d^(1/2),

and the mean of its entries is the first-order gain of a step on that block: the L1 norm of the mean
gradient where the examples agree, and less as they do not.
"""

import numpy as np

from layerwise.capture.stats import LayerStats
from layerwise.errors import BadInputError
from layerwise.seeds import numpy_generator
from layerwise.shapes import Array, Float64

#: Relative damping (ours): a tenth of the mean squared gradient norm of a block.
DAMPING = 0.1
#: Draws of a null: a figure above all of them has a probability of one in twenty there.
DRAWS = 19


def gain(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the gain of a damped step on each block alone: dimensionless, below one half.

    1/2 u^T K (K / n + lambda I)^-1 u is at most n / 2 ||u||^2 = 1 / 2: the Fisher is made of the
    same gradients as the step, so their scale is gone.
    """
    assert stats.gram is not None  # noqa: S101  # the plan measured Gram matrices
    return single_gains(stats.gram)


def gain_by_chance(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the largest gain of each block in draws in which the examples' signs are flipped."""
    assert stats.gram is not None  # noqa: S101  # the plan measured Gram matrices
    drawn = (single_gains(flipped(stats.gram, stats.seed, draw)) for draw in range(DRAWS))
    return np.asarray(np.max([*drawn], axis=0), dtype=np.float64)


def adam_gain(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the first-order gain of a step of Adam in each block; 0 where it would lose."""
    assert stats.adam_gram is not None  # noqa: S101  # the plan measured Gram matrices
    return np.asarray(np.maximum(pulls(stats.adam_gram).mean(axis=0), 0.0))


def flipped(gram: Float64[Array, "l n n"], seed: int, draw: int) -> Float64[Array, "l n n"]:
    """Return `gram` with the signs of the examples flipped at random, in each block on its own."""
    signs = numpy_generator(seed, "coupling", draw).choice([-1.0, 1.0], size=gram.shape[:2])
    return np.asarray(gram * signs[:, :, None] * signs[:, None, :])


def single_gains(gram: Float64[Array, "l n n"], *, damping: float = DAMPING) -> Float64[Array, "l"]:
    """Return the same from the blocks' Gram matrices; `damping` is as for `ridge`."""
    return step_gains(gram, ridge(gram, damping))


def ridge(gram: Float64[Array, "l n n"], damping: float) -> float:
    """Return lambda: `damping` times a block's mean squared per-example gradient norm.

    Raises:
        BadInputError: `damping` is not positive.
    """
    if not damping > 0.0:
        raise BadInputError(what="damping", value=damping, expected="a number above 0")
    return damping * float(np.einsum("lii->", gram) / (gram.shape[0] * gram.shape[1]))


def step_gains(gram: Float64[Array, "k n n"], ridge: float) -> Float64[Array, "k"]:
    """Return 1/2 u^T K (K / n + ridge I)^-1 u for each K of `gram`; 0 where `ridge` is."""
    count, n = gram.shape[:2]
    if not ridge > 0.0:
        return np.zeros(count)
    mean = np.full((count, n, 1), 1.0 / n)
    solved = np.linalg.solve(gram / n + ridge * np.eye(n), mean)[..., 0]
    pulled = np.einsum("kij,kj->ki", gram, solved)
    return np.asarray(0.5 * pulled.mean(axis=1), dtype=np.float64)


def pulls(gram: Float64[Array, "l n n"]) -> Float64[Array, "n l"]:
    """Return how much a step along the others' mean gradient would lower each example's loss.

    By block, the mean over j other than i of K_l[i, j]: leaving the example itself out takes away
    what noise alone would give. Zero where there is one example.
    """
    n = gram.shape[1]
    others = gram.sum(axis=2) - np.einsum("lii->li", gram)
    return np.asarray(others.T / max(n - 1, 1), dtype=np.float64)
