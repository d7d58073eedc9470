"""How much of a block's gain the other blocks can give: coupling (arXiv 2602.04019, section 5).

With G_l the (n, D_l) per-example adapter gradients of block l, F = G^T G / n over all blocks and
g = G^T u, u = 1/n, the quadratic model has the gradient g and the curvature H = F + lambda I, with
lambda inside the diagonal blocks D: undamped, n examples and more parameters than examples leave
no block anything of its own. lambda is relative (`gain.ridge`). All work is in example space: with
S_l = (K_l / n) (K_l / n + lambda I)^-1 of the Gram matrix K_l = G_l G_l^T, the curvature-normalised
coupling of two blocks has the singular values of S_l^(1/2) S_m^(1/2).

The null is independent gradients: the signs of the examples' gradients are flipped, in each block
on its own, which keeps every block's own Gram spectrum and what large examples alone bring.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from layerwise.shapes import Array, Float64
from layerwise.signals.gain import ridge, step_gains

#: Relative dampings (ours): from where blocks take from each other what they can to where none do.
DAMPINGS = (0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True)
class BlockCoupling:
    """The quantities of proposition 5.1, one a block, (l,).

    Attributes:
        kappa: Squared norm of the normalised coupling with all other blocks, in [0, 1).
        u: Norm of the block's own normalised gradient.
        compensation: C, the most of `u` that the other blocks can give.
        s: What is left of `u`, at least 0.
        freezing: What freezing the block costs when all others adapt, dimensionless as `gain`.
        low: Its lower bound, from the adjusted gradient.
        high: Its upper bound.
    """

    kappa: Float64[Array, "l"]
    u: Float64[Array, "l"]
    compensation: Float64[Array, "l"]
    s: Float64[Array, "l"]
    freezing: Float64[Array, "l"]
    low: Float64[Array, "l"]
    high: Float64[Array, "l"]


@dataclass(frozen=True)
class SetCoupling:
    """The quantities of theorem 5.2 for a set of blocks.

    Attributes:
        rho: Norm of the normalised coupling within the set, at least 0.
        gain: Delta, the gain of adapting the set, dimensionless as `gain`.
        additive: The sum of the blocks' own gains.
        bound: additive / (1 + rho), which `gain` is never below.
    """

    rho: float
    gain: float
    additive: float
    bound: float


def block_coupling(gram: Float64[Array, "l n n"], damping: float) -> BlockCoupling:
    """Return how each block is coupled to all others, at a relative `damping`.

    Raises:
        BadInputError: `damping` is not positive.
    """
    scale = ridge(gram, damping)
    total, n = gram.sum(axis=0), gram.shape[1]
    rest = total - gram
    own, others = _shares(gram, scale), _shares(rest, scale)
    root = _roots(own)
    kappa = np.linalg.eigvalsh(root @ others @ root)[:, -1].clip(0.0, 1.0)
    left = np.full(n, 1.0 / n) - others.mean(axis=2)  # (I - Q_R) u
    adjusted = n * np.einsum("li,lij,lj->l", left, own, left)
    u, rival = (np.sqrt(2.0 * step_gains(each, scale)) for each in (gram, rest))
    compensation = np.sqrt(kappa) * rival
    return BlockCoupling(
        kappa=kappa,
        u=u,
        compensation=compensation,
        s=np.maximum(u - compensation, 0.0),
        freezing=step_gains(total[None], scale) - step_gains(rest, scale),
        low=0.5 * adjusted,
        high=0.5 * adjusted / (1.0 - kappa).clip(np.finfo(float).tiny),
    )


def set_coupling(gram: Float64[Array, "l n n"], rows: Sequence[int], damping: float) -> SetCoupling:
    """Return how the blocks in `rows` are coupled among themselves, at a relative `damping`.

    Raises:
        BadInputError: `damping` is not positive.
    """
    scale = ridge(gram, damping)
    some = gram[list(rows)]
    rho = _rho(_shares(some, scale))
    additive = float(step_gains(some, scale).sum())
    gain = float(step_gains(some.sum(axis=0)[None], scale)[0])
    return SetCoupling(rho, gain, additive, additive / (1.0 + rho))


def _shares(gram: Float64[Array, "k n n"], scale: float) -> Float64[Array, "k n n"]:
    """Return (K / n) (K / n + scale I)^-1 for each K of `gram`; zero where `scale` is."""
    n = gram.shape[1]
    if not scale > 0.0:
        return np.zeros_like(gram)
    return np.asarray(np.linalg.solve(gram / n + scale * np.eye(n), gram / n))


def _roots(shares: Float64[Array, "k n n"]) -> Float64[Array, "k n n"]:
    """Return the symmetric square root of each."""
    values, vectors = np.linalg.eigh((shares + shares.transpose(0, 2, 1)) / 2.0)
    return np.asarray(
        (vectors * np.sqrt(values.clip(0.0))[:, None, :]) @ vectors.transpose(0, 2, 1)
    )


def _rho(shares: Float64[Array, "k n n"]) -> float:
    """Return the largest absolute eigenvalue of the blocks S_l^(1/2) S_m^(1/2), l other than m."""
    count, n = shares.shape[:2]
    roots = _roots(shares)
    if count < 2 or not roots.any():
        return 0.0

    def apply(flat: np.ndarray) -> np.ndarray:
        parts = flat.reshape(count, n)
        whole = np.einsum("lij,lj->i", roots, parts)
        found = np.einsum("lij,j->li", roots, whole) - np.einsum("lij,lj->li", shares, parts)
        return np.asarray(found.ravel())

    size = count * n
    coupled = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    start = np.linspace(1.0, 2.0, size)  # The same figure whenever it is computed.
    (largest,) = eigsh(coupled, k=1, which="LM", v0=start, return_eigenvectors=False)
    return abs(float(largest))
