"""How far a representation moved: Procrustes, CKA, RSA and shared-PCA CKA between two states.

Rows are the same n inputs before and after, columns are features. Every measure centres the
columns and ignores scale and rotation. Sums are in float64 throughout. Work that concerns one
state is done once, in `Representation`; what is left is work on a pair. Matrices are torch's, which
keeps to its number of threads in each thread that calls it.

Source of the measures: arXiv 2604.17177 (Procrustes, CKA, RSA) and arXiv 2511.00797 (shared PCA).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from layerwise.errors import BadInputError, NonFiniteError
from layerwise.shapes import Array, Bool, Float, Float64, Tensor
from layerwise.signals.ranks import centred_ranks

#: Principal components of the shared PCA.
COMPONENTS = 256

#: Centred rows below this share of what they were are rounding, not variance.
_NOTHING = 64 * np.finfo(np.float64).eps

#: Least eigenvalue of a Gram matrix of trace 1 below which its Cholesky factor lost too much.
_SINGULAR = 1e-10

#: Energy of a principal component, as a share of the largest's, below which it is rounding.
_FLAT = 1e-12


@dataclass(frozen=True)
class Representation:
    """One state of n inputs, with what every comparison needs of it.

    Attributes:
        raw: The rows as given, (n, p).
        centred: The rows minus their mean, (n, p).
        norm: The Frobenius norm of `centred`.
    """

    raw: Float64[Tensor, "n p"]
    centred: Float64[Tensor, "n p"]
    norm: float

    @cached_property
    def gram(self) -> Float64[Tensor, "n n"]:
        """X X^T of the centred rows at norm 1: its trace is 1."""
        # Wide rows are read once less this way than if they were divided first.
        return (self.centred @ self.centred.T) / self.norm**2

    @cached_property
    def rows(self) -> Float64[Tensor, "n k"]:
        """Return `centred` at norm 1, in an orthonormal basis that its rows lie in, k = min(n, p).

        The cross product of two states in these coordinates has the singular values of X^T Y (and
        one more, 1/n, where p > n), and no p x p matrix is ever made.
        """
        n, p = self.centred.shape
        return self.centred / self.norm if p <= n else _factor(self.gram, self)

    @cached_property
    def self_similarity(self) -> float:
        """Return ||X^T X||_F."""
        n, p = self.centred.shape
        return float((self.rows.T @ self.rows if p < n else self.gram).norm())

    @cached_property
    def ranks(self) -> Float64[Tensor, "m"]:
        """Return ranks of the n (n - 1) / 2 Pearson correlations between rows, centred, of norm 1.

        The dissimilarity 1 - r has the same ranks backwards, so the same rank correlations.

        Raises:
            BadInputError: A row is the same in all features, so correlates with nothing.
        """
        means = self.centred.mean(1) / self.norm
        products = self.gram - self.centred.shape[1] * torch.outer(means, means)
        variances, energies = products.diagonal(), self.gram.diagonal()
        least = torch.maximum(_NOTHING * energies, _NOTHING**2 * energies.mean())
        if not bool((variances > least).all()):
            msg = "representation with an input that is the same in all features"
            raise BadInputError(msg, expected="rows that vary over features")
        scale = variances.rsqrt()
        correlations = products * scale[:, None] * scale
        above = torch.triu_indices(len(means), len(means), 1)
        ranks = centred_ranks(correlations[above[0], above[1]].numpy()[None])[0]
        energy = float(np.square(ranks).sum())  # Zero where every value is the same.
        return torch.from_numpy(ranks / np.sqrt(energy) if energy > 0.0 else ranks)


def _factor(gram: Float64[Tensor, "n n"], x: Representation) -> Tensor:
    """The rows of `x` at norm 1, each with a further coordinate 1/n, in an n-dimensional basis.

    That coordinate takes no part in any difference or variance and adds 1/n to the nuclear norm;
    without it centring would leave the Gram matrix singular, along the vector of ones. So its
    Cholesky factor serves, at a third of the cost of a QR decomposition; squaring halves the
    digits of small singular values, hence QR where the matrix is nearly singular all the same.
    """
    n = len(gram)
    lower, failed = torch.linalg.cholesky_ex(gram + 1.0 / n**2)
    if not failed and _least_eigenvalue(lower) > _SINGULAR:
        return lower
    rows = torch.cat([x.centred / x.norm, torch.full((n, 1), 1.0 / n, dtype=torch.float64)], 1)
    return torch.linalg.qr(rows.T, mode="r").R.T


def _least_eigenvalue(lower: Float64[Tensor, "n n"]) -> float:
    """Return an estimate, from above, of the least eigenvalue of L L^T, by inverse iteration."""
    n = len(lower)
    vector = torch.linspace(1.0, 2.0, n, dtype=torch.float64)
    vector[::2] *= -1.0
    size = 1.0
    for _ in range(4):
        vector = torch.cholesky_solve((vector / vector.norm())[:, None], lower)[:, 0]
        size = float(vector.norm())
    return 1.0 / size


def represent(x: Float[Array, "n p"]) -> Representation:
    """Return the rows of one state, ready to be compared.

    Raises:
        NonFiniteError: An entry is NaN or infinite.
        BadInputError: All rows are the same: there is nothing to compare.
    """
    raw = torch.from_numpy(np.require(x, np.float64, "W"))
    mean = raw.mean(0)
    centred = raw - mean
    norm = float(centred.norm())
    if not math.isfinite(norm):
        msg = "representation that is not finite"
        raise NonFiniteError(msg, expected="finite numbers", hint="--dtype float32")
    if norm <= _NOTHING * math.hypot(norm, math.sqrt(len(raw)) * float(mean.norm())):
        msg = "representation without variance"
        raise BadInputError(msg, value=f"{len(raw)} equal rows", expected="rows that differ")
    return Representation(raw, centred, norm)


@dataclass(frozen=True)
class Alignment:
    """Two states in common coordinates, one turned onto the other as closely as it goes.

    Attributes:
        turned: The centred, normalised rows of the first under the best rotation, (n, k).
        target: Those of the second, (n, k).
    """

    turned: Float64[Tensor, "n k"]
    target: Float64[Tensor, "n k"]

    @cached_property
    def distance(self) -> float:
        """Return Procrustes distance sqrt(2 - 2 ||X^T Y||_*), in [0, sqrt 2].

        Taken as ||X R - Y||_F with the best rotation R, which is the same number without the
        cancellation: small distances keep their digits.
        """
        return min(float((self.turned - self.target).norm()), math.sqrt(2.0))

    def weighted(self, weights: Float64[Array, "b n"]) -> Float64[Array, "b"]:
        """The distance where inputs count by each row of `weights`, under this same rotation.

        Centring and normalisation follow the weights; the rotation does not. It is the minimiser
        of the distance, so by the envelope theorem holding it fixed is exact to first order in
        the weights. Weights of one give `distance`.
        """
        w = torch.from_numpy(weights)
        x, y = w @ self.turned, w @ self.target
        x_norm, y_norm = _scatter(self.turned, x, w).sqrt(), _scatter(self.target, y, w).sqrt()
        # ||x / |x| - y / |y|||^2 = (||x - y||^2 - (|x| - |y|)^2) / (|x| |y|), without cancellation.
        apart = _scatter(self.turned - self.target, x - y, w) - (x_norm - y_norm).square()
        squared = apart / (x_norm * y_norm)
        return squared.clamp(0.0, 2.0).sqrt().numpy()


def _scatter(
    rows: Float64[Tensor, "n k"], sums: Float64[Tensor, "b k"], weights: Float64[Tensor, "b n"]
) -> Float64[Tensor, "b"]:
    """Sums of squares around the mean, under each row of `weights`; `sums` are weights x rows."""
    around = sums.square().sum(1) / weights.sum(1)
    return (weights @ rows.square().sum(1) - around).clamp_min(0.0)


def align(x: Representation, y: Representation) -> Alignment:
    """Return `x` turned onto `y`: the orthogonal Procrustes problem in at most n dimensions.

    Source: Schonemann, A generalized solution of the orthogonal Procrustes problem (1966).
    """
    left, _, right = torch.linalg.svd(x.rows.T @ y.rows, full_matrices=False)
    return Alignment(x.rows @ (left @ right), y.rows)


def unrotated(x: Representation, y: Representation) -> float:
    """Return ||X - Y||_F of the rows as they stand, centred and at norm 1, in [0, 2]."""
    return float((x.centred / x.norm - y.centred / y.norm).norm())


def held_out(
    before: Float[Array, "n p"], after: Float[Array, "n p"], half: Bool[Array, "n"]
) -> float:
    """Return the distance under a rotation that was fitted on other rows, in [0, 2] (ours).

    The mean of two: fitted on `half` and measured on the rest, and the reverse. Each side is
    centred, and divided by its Frobenius norm, by itself. The rotation turns the first min(n // 4,
    p) principal components of both fitted states together, and nothing at right angles to these.

    Raises:
        BadInputError: A half has no variance.
    """
    one, other = ((represent(before[rows]), represent(after[rows])) for rows in (half, ~half))
    kept = min(len(before) // 4, before.shape[1])
    return (_under(one, other, kept) + _under(other, one, kept)) / 2.0


def _under(fit: Sequence[Representation], shown: Sequence[Representation], kept: int) -> float:
    """Return the distance of the pair `shown` under the rotation that fits the pair `fit`."""
    first, second = (side.centred / side.norm for side in fit)
    basis = _axes(torch.cat([first, second]), kept)
    left, _, right = torch.linalg.svd((first @ basis).T @ (second @ basis))
    turn = left @ right - torch.eye(len(right), dtype=torch.float64)
    x, y = (side.centred / side.norm for side in shown)
    return float((x - y + x @ basis @ turn @ basis.T).norm())


def _axes(rows: Float64[Tensor, "m p"], count: int) -> Float64[Tensor, "p c"]:
    """Return the first `count` principal axes of centred rows, without those that are rounding."""
    m, p = rows.shape
    values, vectors = torch.linalg.eigh(rows.T @ rows if p < m else rows @ rows.T)
    count = min(count, int((values > _FLAT * values[-1]).sum()))
    vectors = vectors[:, len(vectors) - count :]
    return vectors if p < m else torch.linalg.qr(rows.T @ vectors)[0]


def cka_of(x: Representation, y: Representation) -> float:
    """Return 1 - linear CKA, in [0, 1]: 1 - ||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F).

    Source: Kornblith et al., Similarity of neural network representations revisited (2019).
    """
    n, p = x.centred.shape
    # ||X^T Y||_F^2 is the inner product of the two Gram matrices.
    shared = (x.rows.T @ y.rows).square() if p < n else x.gram * y.gram
    return _unit(1.0 - float(shared.sum()) / (x.self_similarity * y.self_similarity))


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def rsa_of(x: Representation, y: Representation) -> float:
    """1 - Spearman correlation of the two dissimilarity matrices' upper triangles, in [0, 2].

    Dissimilarity is 1 - Pearson correlation between rows, after the columns are centred.

    Source: Kriegeskorte et al., Representational similarity analysis (2008).

    Raises:
        BadInputError: A row of a state has no variance over its features.
    """
    return min(max(1.0 - float(x.ranks @ y.ranks), 0.0), 2.0)


def shared_pca_of(x: Representation, y: Representation, *, components: int = COMPONENTS) -> float:
    """Return 1 - linear CKA of both states on the first principal components of the two together.

    At most min(n - 1, p) `components`.

    Source: arXiv 2511.00797.
    """
    n, p = x.raw.shape
    if p <= min(components, n - 1):
        return cka_of(x, y)  # All components: a rotation.
    stacked = torch.cat([x.raw, y.raw])
    stacked -= stacked.mean(0)
    scores = _scores(stacked, min(components, n - 1))
    before, after = (part - part.mean(0) for part in (scores[:n], scores[n:]))
    norms = [float((part.T @ part).norm()) for part in (before, after)]
    return _unit(1.0 - float((before.T @ after).square().sum()) / (norms[0] * norms[1]))


def _scores(rows: Float64[Tensor, "m p"], count: int) -> Float64[Tensor, "m c"]:
    """Return the first `count` principal components' scores of centred rows.

    By the eigenvectors of the smaller of the Gram and the covariance matrix.
    """
    m, p = rows.shape
    if p < m:
        return rows @ torch.linalg.eigh(rows.T @ rows)[1][:, p - count :]
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    return vectors[:, m - count :] * values[m - count :].clamp_min(0.0).sqrt()


@dataclass(frozen=True)
class CrossMoments:
    """The Procrustes distance of any number of rows, in the memory of one p x q matrix.

    A monoid: `zero`, `update` with some rows, `merge` of two parts, `result`. Parts are centred on
    their own means and joined exactly, so a large mean costs no digits.

    Source of the joining: Chan, Golub and LeVeque, Updating formulae (1979).

    Attributes:
        count: Rows seen.
        means: The two column means, (p,) and (q,).
        energies: The two sums of squares around them.
        cross: The sum of (x - mean) (y - mean)^T, (p, q).
    """

    count: int
    means: tuple[Float64[Array, "p"], Float64[Array, "q"]]
    energies: tuple[float, float]
    cross: Float64[Array, "p q"]

    @classmethod
    def zero(cls, p: int, q: int) -> "CrossMoments":
        """Return no rows yet, of widths `p` and `q`."""
        return cls(0, (np.zeros(p), np.zeros(q)), (0.0, 0.0), np.zeros((p, q)))

    def update(self, x: Float[Array, "n p"], y: Float[Array, "n q"]) -> "CrossMoments":
        """Return these moments with the rows of `x` and `y` added."""
        if not len(x):
            return self
        means = x.mean(0, dtype=np.float64), y.mean(0, dtype=np.float64)
        x_centred, y_centred = x - means[0], y - means[1]
        energies = float(np.vdot(x_centred, x_centred)), float(np.vdot(y_centred, y_centred))
        return self.merge(CrossMoments(len(x), means, energies, x_centred.T @ y_centred))

    def merge(self, other: "CrossMoments") -> "CrossMoments":
        """Return the moments of both parts' rows together."""
        if not (self.count and other.count):
            return self if self.count else other
        count = self.count + other.count
        share, both = other.count / count, self.count * other.count / count
        x, y = (b - a for a, b in zip(self.means, other.means, strict=True))
        return CrossMoments(
            count,
            (self.means[0] + share * x, self.means[1] + share * y),
            (
                self.energies[0] + other.energies[0] + both * float(x @ x),
                self.energies[1] + other.energies[1] + both * float(y @ y),
            ),
            self.cross + other.cross + both * np.outer(x, y),
        )

    def result(self) -> float:
        """Return the Procrustes distance of all rows, in [0, sqrt 2].

        Distances below about 1e-7 are lost to cancellation here; `Alignment.distance` keeps them.

        Raises:
            NonFiniteError: An entry was NaN or infinite.
            BadInputError: A side has no variance.
        """
        if not bool(np.isfinite(self.cross).all()):
            msg = "representation that is not finite"
            raise NonFiniteError(msg, expected="finite numbers", hint="--dtype float32")
        floors = [_NOTHING**2 * self.count * float(mean @ mean) for mean in self.means]
        if any(e <= floor for e, floor in zip(self.energies, floors, strict=True)):
            msg = "representation without variance"
            raise BadInputError(msg, value=f"{self.count} equal rows", expected="rows that differ")
        singular = torch.linalg.svdvals(torch.from_numpy(self.cross)).sum()
        share = float(singular) / float(np.sqrt(self.energies[0] * self.energies[1]))
        return float(np.sqrt(np.clip(2.0 - 2.0 * share, 0.0, 2.0)))
