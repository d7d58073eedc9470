"""What is kept of the gradients of every objective: sums that do not grow with the examples.

Monoids all: `zero`, `update` with some rows, `merge` of two parts. Parts are centred on their own
means and joined exactly (Chan, Golub and LeVeque, Updating formulae, 1979), in float64.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from layerwise.shapes import Array, Float, Float64
from layerwise.signals.similarity import CrossMoments

T = TypeVar("T")


@dataclass(frozen=True)
class GradientMoments:
    """What one objective's rows are like, in the memory of a few of them.

    Attributes:
        count: Rows seen.
        mean: Their mean, (d,).
        scatter: For each coordinate, the sum of squares around the mean, (d,).
        norms: The sum of the rows' norms.
        nonzero: Entries that are not zero.
    """

    count: int
    mean: Float64[Array, "d"]
    scatter: Float64[Array, "d"]
    norms: float
    nonzero: int

    @classmethod
    def zero(cls, width: int) -> "GradientMoments":
        """Return no rows yet, of `width` coordinates."""
        return cls(0, np.zeros(width), np.zeros(width), 0.0, 0)

    def update(self, rows: Float[Array, "n d"]) -> "GradientMoments":
        """Return these moments with `rows` added."""
        if not len(rows):
            return self
        wide = rows.astype(np.float64)
        mean = wide.mean(0)
        norms = float(np.linalg.norm(wide, axis=1).sum())
        part = (len(rows), mean, np.square(wide - mean).sum(0), norms, int(np.count_nonzero(rows)))
        return self.merge(GradientMoments(*part))

    def merge(self, other: "GradientMoments") -> "GradientMoments":
        """Return the moments of both parts' rows together."""
        if not (self.count and other.count):
            return self if self.count else other
        count = self.count + other.count
        apart, share = other.mean - self.mean, other.count / count
        return GradientMoments(
            count,
            self.mean + share * apart,
            self.scatter + other.scatter + self.count * share * np.square(apart),
            self.norms + other.norms,
            self.nonzero + other.nonzero,
        )

    @property
    def deviation(self) -> Float64[Array, "d"]:
        """Return the standard deviation of each coordinate, of the rows as a whole population."""
        return np.sqrt(self.scatter / self.count)

    @property
    def mean_square(self) -> Float64[Array, "d"]:
        """The mean of each coordinate's square: the diagonal of the empirical Fisher matrix."""
        return self.scatter / self.count + np.square(self.mean)


@dataclass(frozen=True)
class ObjectiveMoments:
    """The rows of several objectives on the same examples: each by itself, and against one of them.

    Attributes:
        rows: By objective, what its rows are like.
        cross: By objective except the reference, the reference's rows against its own.
    """

    rows: Mapping[str, GradientMoments] = field(default_factory=dict)
    cross: Mapping[str, CrossMoments] = field(default_factory=dict)

    def update(
        self, rows: Mapping[str, Float[Array, "n d"]], *, reference: str
    ) -> "ObjectiveMoments":
        """Return these moments with the rows of the same n examples under each objective added."""
        width = rows[reference].shape[1]
        alone, pairs = GradientMoments.zero(width), CrossMoments.zero(width, width)
        return ObjectiveMoments(
            {name: self.rows.get(name, alone).update(own) for name, own in rows.items()},
            {
                name: self.cross.get(name, pairs).update(rows[reference], own)
                for name, own in rows.items()
                if name != reference
            },
        )

    def merge(self, other: "ObjectiveMoments") -> "ObjectiveMoments":
        """Return the moments of both parts' examples together."""
        return ObjectiveMoments(
            _joined(self.rows, other.rows, GradientMoments.merge),
            _joined(self.cross, other.cross, CrossMoments.merge),
        )


def _joined(
    first: Mapping[str, T], second: Mapping[str, T], merge: Callable[[T, T], T]
) -> dict[str, T]:
    """Return both mappings as one; what is in both is merged."""
    both = {name: merge(part, second[name]) for name, part in first.items() if name in second}
    return {**first, **second, **both}
