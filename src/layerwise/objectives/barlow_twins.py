"""Barlow Twins: two dropout views of a text agree, and no two coordinates say the same.

Barlow Twins (arXiv 2103.03230, equations 1 and 2), with no projector: no parameters are added.
Each coordinate of the n first views, and of the n second ones, is centred and divided by its
standard deviation over the batch (the root of the mean square, with 1e-5 under the root, as batch
normalisation does). With C the d x d matrix of their correlations, C = A^T B / n,

    loss = sum_i (1 - C_ii)^2 + w * sum_{i != j} C_ij^2,        w = 5e-3

It is a loss of the batch, not of a text: each of its 2n rows carries the whole of it, so that their
mean is the loss. Two texts correlate by +1 or -1 wherever they lie: three are the fewest.
"""

import torch

from layerwise.objectives.views import comparison
from layerwise.shapes import Tensor

OFF_DIAGONAL, EPSILON = 5e-3, 1e-5


def cross_correlation_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return the loss of a batch from the vectors of its views, (n, d) each."""
    with torch.autocast(first.device.type, enabled=False):
        correlation = _standard(first).T @ _standard(second) / len(first)
        diagonal = correlation.diagonal()
        agreement = (1 - diagonal).square().sum()
        redundancy = correlation.square().sum() - diagonal.square().sum()
        return agreement + OFF_DIAGONAL * redundancy


def _standard(vectors: Tensor) -> Tensor:
    """Return `vectors` with each coordinate of mean 0 and variance 1 over the rows."""
    centred = vectors - vectors.mean(dim=0)
    return centred * (centred.square().mean(dim=0) + EPSILON).rsqrt()


def _losses(first: Tensor, second: Tensor) -> Tensor:
    return cross_correlation_loss(first, second).expand(2 * len(first))


BARLOW_TWINS = comparison("barlow-twins", _losses, least=3)
