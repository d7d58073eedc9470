"""What adapters of each block could correct, through the covariance of the features they see.

With phi = A a the r features of a module's adapter, Sigma = E phi phi^T over counted tokens and
h = E delta phi^T the gradient of B, the squared-loss problem of the adapter has the optimum
h Sigma^-1. Source: arXiv 2602.04019, theorem 3.3 and proposition 4.1. A is the first draw of the
pass. Directions that the features do not have (eigenvalues of 0, but for rounding) are left out.
"""

import numpy as np

from layerwise.capture.stats import LayerStats
from layerwise.shapes import Array, Float64

#: Eigenvalues below this share of the largest are rounding (ours).
_NOTHING = 1e-10


def projected_residual(stats: LayerStats) -> Float64[Array, "l"]:
    """Return h^T Sigma^-1 h, summed over outputs and over a block's modules.

    `residual_norm` stands for it with a multiple of the identity in the place of Sigma.
    """
    return _total(stats, [pull for pull, _, _ in map(_spectrum, *_parts(stats))])


def noise_amplification(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the excess risk of white noise in c of variance sigma: sigma / 2 tr Sigma^-1.

    Relative to the mean eigenvalue sigma = tr Sigma / r it is free of the inputs' scale: r / 2
    where all directions are alike, more where some are weak. Mean over a block's modules.
    """
    found = [
        0.5 * float(np.mean(values) * np.sum(1.0 / values)) if len(values) else 0.0
        for _, values, _ in map(_spectrum, *_parts(stats))
    ]
    return _mean(stats, found)


def norm_budget(stats: LayerStats) -> Float64[Array, "l"]:
    """Return the norm of B below which the risk cannot be least: ||Sigma^-1/2 c|| / sqrt(lambda_1).

    By the last bound of proposition 4.1; modules side by side.
    """
    squares = [
        pull / values[-1] if len(values) else 0.0
        for pull, values, _ in map(_spectrum, *_parts(stats))
    ]
    return np.asarray(np.sqrt(_total(stats, squares)))


def _parts(stats: LayerStats) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return each module's H^T H and Sigma."""
    assert stats.feature_products is not None  # noqa: S101  # the plan measured gradients
    assert stats.mean_gradient_products is not None  # noqa: S101
    assert stats.input_tokens is not None  # noqa: S101
    tokens = stats.input_tokens.sum(0)[[module.source for module in stats.modules]]
    sigmas = stats.feature_products / np.maximum(tokens, 1.0)[:, None, None]
    return list(stats.mean_gradient_products), list(sigmas)


def _spectrum(
    gradient: Float64[Array, "r r"], sigma: Float64[Array, "r r"]
) -> tuple[float, Float64[Array, "k"], Float64[Array, "k"]]:
    """Return tr(H^T H Sigma^-1), the eigenvalues of Sigma, ascending, and H^T H along them."""
    values, vectors = np.linalg.eigh(sigma)
    known = values > _NOTHING * values[-1]
    along = np.einsum("ik,ij,jk->k", vectors, gradient, vectors)[known]
    return float((along / values[known]).sum()), values[known], along


def _total(stats: LayerStats, values: list[float]) -> Float64[Array, "l"]:
    """Return a figure of modules added up by block; NaN for a block without any."""
    column = np.full(len(stats.blocks), np.nan)
    for row in {module.row for module in stats.modules}:
        column[row] = sum(v for m, v in zip(stats.modules, values, strict=True) if m.row == row)
    return column


def _mean(stats: LayerStats, values: list[float]) -> Float64[Array, "l"]:
    counts = _total(stats, [1.0] * len(values))
    return np.asarray(_total(stats, values) / counts)
