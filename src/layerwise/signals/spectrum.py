"""Singular values of low-rank updates, and what they say; spectral norms of dense weights.

An update is never formed: that of two factors of rank r has r singular values, those of an r x r
matrix.
"""

import numpy as np
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from layerwise.seeds import numpy_generator
from layerwise.shapes import Array, Float, Float64

#: The relative error that a spectral norm may have (ours).
TOLERANCE = 1e-5
#: Below this many rows or columns all singular values are as cheap as the first.
_SMALL = 64


def product_singular_values(
    up: Float64[Array, "e o r"], down: Float64[Array, "e r i"]
) -> Float64[Array, "k"]:
    """The singular values of a block-diagonal matrix with blocks `up` @ `down`, largest first.

    With `up` = Q R and `down`^T = P S, both by QR, those of a block are the ones of R S^T.
    """
    left = np.asarray(np.linalg.qr(up, mode="r"))
    right = np.asarray(np.linalg.qr(down.swapaxes(1, 2), mode="r"))
    values = np.linalg.svd(left @ right.swapaxes(1, 2), compute_uv=False)
    return np.asarray(np.sort(values, axis=None)[::-1], dtype=np.float64)


def spectral_norm(weight: Float[Array, "e o i"]) -> float:
    """Return the largest singular value of any of the matrices in `weight`.

    By implicitly restarted Lanczos (ARPACK) from a fixed start, to the relative `TOLERANCE`;
    exactly where a matrix is small.
    """
    return max(map(_largest, weight))


def _largest(matrix: Float[Array, "o i"]) -> float:
    narrow = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    size = narrow.shape[1]
    if size <= _SMALL or not narrow.any():  # From zero there is no direction to start in.
        return _exact(narrow)
    gram = LinearOperator(
        (size, size), matvec=lambda x: narrow.T @ (narrow @ x), dtype=narrow.dtype
    )
    random = numpy_generator(0, "spectral norm")
    start = np.asarray(random.standard_normal(size), dtype=narrow.dtype)
    try:
        found = eigsh(gram, k=1, tol=2.0 * TOLERANCE, v0=start, return_eigenvectors=False)
    except ArpackError:  # It stops where few singular values differ, as in a rotation.
        return _exact(narrow)
    return float(np.sqrt(found[0]))


def _exact(matrix: Float[Array, "o i"]) -> float:
    return float(np.linalg.norm(matrix.astype(np.float64), 2)) if matrix.size else 0.0


def stable_rank(values: Float64[Array, "k"]) -> float:
    """Return the squared Frobenius over the squared spectral norm; 0 where all `values` are 0.

    Source: Rudelson & Vershynin (2007), arXiv math/0503442.
    """
    most = float(values.max(initial=0.0))
    return float(np.sum(np.square(values / most))) if most > 0.0 else 0.0


def effective_rank(values: Float64[Array, "k"]) -> float:
    """exp(entropy) of the normalised `values`: from 1 to how many are not 0; 0 where all are.

    Source: Roy and Vetterli, The effective rank (EUSIPCO 2007).
    """
    total = values.sum()
    if total <= 0.0:
        return 0.0
    shares = values[values > 0.0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def energy_rank(values: Float64[Array, "k"], *, share: float) -> int:
    """Return how many of `values`, largest first, hold `share` of their squares' sum; 0 of zeros.

    Shares are compared to within rounding: four equal values hold 0.75 in three.
    """
    energy = np.cumsum(np.square(values))
    if not energy.size or energy[-1] <= 0.0:
        return 0
    return int(np.argmax(energy >= share * energy[-1] * (1.0 - 1e-12))) + 1
