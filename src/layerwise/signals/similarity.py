"""How far a representation moved: Procrustes, CKA, RSA and shared-PCA CKA between two states.

Rows are the same n inputs before and after, columns are features. Every measure centres the
columns and ignores scale and rotation. Sums are in float64 throughout. Work that concerns one
state is done once, in `Representation`; what is left is work on a pair.

Source of the measures: arXiv 2604.17177 (Procrustes, CKA, RSA) and arXiv 2511.00797 (shared PCA).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.linalg import lapack

from layerwise.errors import BadInputError, NonFiniteError
from layerwise.shapes import Array, Float, Float64

__all__ = [
    "COMPONENTS",
    "Alignment",
    "CrossMoments",
    "Representation",
    "align",
    "cka_change",
    "cka_of",
    "procrustes",
    "represent",
    "rsa_change",
    "rsa_of",
    "shared_pca_cka",
    "shared_pca_of",
]

#: Principal components of the shared PCA.
COMPONENTS = 256

#: Centred rows below this share of what they were are rounding, not variance.
_NOTHING = 64 * np.finfo(np.float64).eps

#: Reciprocal condition of a Gram matrix below which its Cholesky factor has lost too much.
_SINGULAR = 1e-10

#: Squared distances above this keep ten digits in 2 - 2 ||X^T Y||_*.
_PLAIN = 1e-4


@dataclass(frozen=True)
class Representation:
    """One state of n inputs, with what every comparison needs of it.

    Attributes:
        raw: The rows as given, (n, p).
        centred: The rows minus their mean, divided by the Frobenius norm, (n, p).
    """

    raw: Float64[Array, "n p"]
    centred: Float64[Array, "n p"]

    @cached_property
    def gram(self) -> Float64[Array, "n n"]:
        """X X^T of the centred rows; its trace is 1."""
        return self.centred @ self.centred.T

    @cached_property
    def rows(self) -> Float64[Array, "n k"]:
        """`centred` in an orthonormal basis of a space that holds its rows, k = min(n, p).

        The cross product of two states in these coordinates has the singular values of X^T Y (and
        one more, `filling`), and no p x p matrix is ever made.
        """
        n, p = self.centred.shape
        return self.centred if p <= n else _factor(self.gram, self.centred)

    @property
    def filling(self) -> float:
        """What `rows` adds to the nuclear norm of any cross product of two states."""
        n, p = self.centred.shape
        return 0.0 if p <= n else 1.0 / n

    @cached_property
    def self_similarity(self) -> float:
        """||X^T X||_F."""
        n, p = self.centred.shape
        return float(np.linalg.norm(self.centred.T @ self.centred if p < n else self.gram))

    @cached_property
    def ranks(self) -> Float64[Array, "m"]:
        """Ranks of the n (n - 1) / 2 Pearson correlations between rows, centred, of norm 1.

        The dissimilarity 1 - r has the same ranks backwards, so the same rank correlations.

        Raises:
            BadInputError: A row is the same in all features, so correlates with nothing.
        """
        means = self.centred.mean(1)
        products = self.gram - self.centred.shape[1] * np.outer(means, means)
        variances = np.diagonal(products)
        if not bool((variances > _NOTHING * np.diagonal(self.gram)).all()):
            msg = "representation with an input that is the same in all features"
            raise BadInputError(msg, expected="rows that vary over features")
        scale = 1.0 / np.sqrt(variances)
        products *= scale[:, None]
        products *= scale
        return _centred_ranks(products[np.triu_indices(len(means), 1)])


def _factor(gram: Float64[Array, "n n"], centred: Float64[Array, "n p"]) -> np.ndarray:
    """The rows of `centred`, each with a further coordinate 1/n, in an n-dimensional basis.

    That coordinate takes no part in any difference or variance and adds 1/n to the nuclear norm;
    without it centring would leave the Gram matrix singular, along the vector of ones. So its
    Cholesky factor serves, at a third of the cost of a QR decomposition; squaring halves the
    digits of small singular values, hence QR where the matrix is nearly singular all the same.
    """
    n = len(gram)
    filled = gram + 1.0 / n**2
    lower, failed = lapack.dpotrf(filled, lower=1, clean=1)
    if not failed:
        reciprocal, _ = lapack.dpocon(lower, np.abs(filled).sum(0).max(), uplo="L")
        if reciprocal > _SINGULAR:
            return lower
    rows = np.concatenate([centred, np.full((n, 1), 1.0 / n)], axis=1)
    upper = torch.linalg.qr(torch.from_numpy(rows).T, mode="r").R
    return np.ascontiguousarray(upper.numpy().T)


def represent(x: Float[Array, "n p"]) -> Representation:
    """The rows of one state, ready to be compared.

    Raises:
        NonFiniteError: An entry is NaN or infinite.
        BadInputError: All rows are the same: there is nothing to compare.
    """
    raw = np.ascontiguousarray(x, dtype=np.float64)
    if not bool(np.isfinite(raw).all()):
        msg = "representation that is not finite"
        raise NonFiniteError(msg, expected="finite numbers", hint="--dtype float32")
    centred = raw - raw.mean(0)
    norm = float(np.linalg.norm(centred))
    if norm <= _NOTHING * float(np.linalg.norm(raw)):
        msg = "representation without variance"
        raise BadInputError(msg, value=f"{len(raw)} equal rows", expected="rows that differ")
    centred /= norm
    return Representation(raw, centred)


def _centred_ranks(values: Float64[Array, "m"]) -> Float64[Array, "m"]:
    """Ranks of `values`, equal ones sharing their mean rank, minus the mean, of norm 1.

    All zero where every value is the same: there is no order to agree with.
    """
    order = np.argsort(values)
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(np.append(starts, len(values)))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (sizes - 1) / 2.0, sizes) - (len(values) - 1) / 2.0
    norm = float(np.linalg.norm(ranks))
    return ranks / norm if norm > 0.0 else ranks


@dataclass(frozen=True)
class Alignment:
    """Two states in common coordinates, one turned onto the other as closely as it goes.

    Attributes:
        turned: The centred, normalised rows of the first under the best rotation, (n, k).
        target: Those of the second, (n, k).
    """

    turned: Float64[Array, "n k"]
    target: Float64[Array, "n k"]

    @cached_property
    def distance(self) -> float:
        """Procrustes distance sqrt(2 - 2 ||X^T Y||_*), in [0, sqrt 2].

        Taken as ||X R - Y||_F with the best rotation R, which is the same number without the
        cancellation: small distances keep all their digits.
        """
        return float(min(np.linalg.norm(self.turned - self.target), np.sqrt(2.0)))

    def weighted(self, weights: Float64[Array, "b n"]) -> Float64[Array, "b"]:
        """The distance where inputs count by each row of `weights`, under this same rotation.

        Centring and normalisation follow the weights; the rotation does not. It is the minimiser
        of the distance, so by the envelope theorem holding it fixed is exact to first order in
        the weights. Weights of one give `distance`. A row of weights under which a state has no
        variance gives NaN.
        """
        mass = weights.sum(1)
        x, y = weights @ self.turned, weights @ self.target
        difference = self.turned - self.target

        def scatter(rows: Float64[Array, "n k"], sums: Float64[Array, "b k"]) -> np.ndarray:
            """The weighted sum of squares around the weighted mean."""
            around = np.einsum("bk,bk->b", sums, sums) / mass
            return np.maximum(weights @ np.einsum("nk,nk->n", rows, rows) - around, 0.0)

        x_norm, y_norm = np.sqrt(scatter(self.turned, x)), np.sqrt(scatter(self.target, y))
        apart = scatter(difference, x - y) - (x_norm - y_norm) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            squared = apart / (x_norm * y_norm)
        return np.sqrt(np.clip(squared, 0.0, 2.0))


def align(x: Representation, y: Representation) -> Alignment:
    """`x` turned onto `y`: the orthogonal Procrustes problem in at most n dimensions.

    Source: Schonemann, A generalized solution of the orthogonal Procrustes problem (1966).
    """
    cross = torch.from_numpy(x.rows.T @ y.rows)
    left, _, right = torch.linalg.svd(cross, full_matrices=False)
    return Alignment(x.rows @ (left @ right).numpy(), y.rows)


def procrustes(x: Float[Array, "n p"], y: Float[Array, "n p"]) -> float:
    """Procrustes distance between two states of the same inputs, in [0, sqrt 2].

    sqrt(2 - 2 ||X^T Y||_*), X and Y column-centred and of Frobenius norm 1.

    Raises:
        NonFiniteError: An entry is NaN or infinite.
        BadInputError: A state has no variance.
    """
    before, after = represent(x), represent(y)
    cross = torch.from_numpy(before.rows.T @ after.rows)
    squared = 2.0 - 2.0 * (float(torch.linalg.svdvals(cross).sum()) - before.filling)
    return float(np.sqrt(squared)) if squared > _PLAIN else align(before, after).distance


def cka_change(x: Float[Array, "n p"], y: Float[Array, "n p"]) -> float:
    """1 - linear CKA, in [0, 1]: 1 - ||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F).

    Source: Kornblith et al., Similarity of neural network representations revisited (2019).

    Raises:
        NonFiniteError: An entry is NaN or infinite.
        BadInputError: A state has no variance.
    """
    return cka_of(represent(x), represent(y))


def cka_of(x: Representation, y: Representation) -> float:
    """1 - linear CKA of two prepared states."""
    n, p = x.centred.shape
    # ||X^T Y||_F^2 is the inner product of the two Gram matrices.
    shared = (
        float(np.linalg.norm(x.centred.T @ y.centred)) ** 2
        if p < n
        else float(np.vdot(x.gram, y.gram))
    )
    return _unit(1.0 - shared / (x.self_similarity * y.self_similarity))


def _unit(value: float) -> float:
    return float(np.clip(value, 0.0, 1.0))


def rsa_change(x: Float[Array, "n p"], y: Float[Array, "n p"]) -> float:
    """1 - Spearman correlation of the two dissimilarity matrices' upper triangles, in [0, 2].

    Dissimilarity is 1 - Pearson correlation between rows, after the columns are centred.

    Source: Kriegeskorte et al., Representational similarity analysis (2008).

    Raises:
        NonFiniteError: An entry is NaN or infinite.
        BadInputError: A state, or one row of it over its features, has no variance.
    """
    return rsa_of(represent(x), represent(y))


def rsa_of(x: Representation, y: Representation) -> float:
    """The RSA change of two prepared states."""
    return float(np.clip(1.0 - x.ranks @ y.ranks, 0.0, 2.0))


def shared_pca_cka(
    x: Float[Array, "n p"], y: Float[Array, "n p"], components: int = COMPONENTS
) -> float:
    """1 - linear CKA of both states on the first principal components of the two together.

    At most min(n - 1, p) components.

    Source: arXiv 2511.00797.

    Raises:
        NonFiniteError: An entry is NaN or infinite.
        BadInputError: A state has no variance.
    """
    return shared_pca_of(represent(x), represent(y), components=components)


def shared_pca_of(x: Representation, y: Representation, *, components: int = COMPONENTS) -> float:
    """The shared-PCA CKA change of two prepared states."""
    n, p = x.raw.shape
    stacked = np.concatenate([x.raw, y.raw])
    stacked -= stacked.mean(0)
    scores = _scores(stacked, min(components, n - 1, p))
    before, after = (part - part.mean(0) for part in (scores[:n], scores[n:]))
    norms = [float(np.linalg.norm(part.T @ part)) for part in (before, after)]
    return _unit(1.0 - float(np.linalg.norm(before.T @ after)) ** 2 / (norms[0] * norms[1]))


def _scores(rows: Float64[Array, "m p"], count: int) -> Float64[Array, "m c"]:
    """The first `count` principal components' scores of centred rows.

    By the eigenvectors of the smaller of the Gram and the covariance matrix.
    """
    m, p = rows.shape
    if p < m:
        _, vectors = _eigh(rows.T @ rows)
        return rows @ vectors[:, p - count :]
    values, vectors = _eigh(rows @ rows.T)
    return vectors[:, m - count :] * np.sqrt(np.maximum(values[m - count :], 0.0))


def _eigh(matrix: Float64[Array, "m m"]) -> tuple[Float64[Array, "m"], Float64[Array, "m m"]]:
    values, vectors = torch.linalg.eigh(torch.from_numpy(matrix))
    return values.numpy(), vectors.numpy()


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
        """No rows yet, of widths `p` and `q`."""
        return cls(0, (np.zeros(p), np.zeros(q)), (0.0, 0.0), np.zeros((p, q)))

    def update(self, x: Float[Array, "n p"], y: Float[Array, "n q"]) -> "CrossMoments":
        """These moments with the rows of `x` and `y` added."""
        if not len(x):
            return self
        means = x.mean(0, dtype=np.float64), y.mean(0, dtype=np.float64)
        x_centred, y_centred = x - means[0], y - means[1]
        energies = float(np.vdot(x_centred, x_centred)), float(np.vdot(y_centred, y_centred))
        return self.merge(CrossMoments(len(x), means, energies, x_centred.T @ y_centred))

    def merge(self, other: "CrossMoments") -> "CrossMoments":
        """The moments of both parts' rows together."""
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
        """The Procrustes distance of all rows, in [0, sqrt 2].

        Distances below about 1e-7 are lost to cancellation here; `procrustes` keeps them.

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
