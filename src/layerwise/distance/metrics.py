"""Distances between what two objectives ask of the same states: pure functions of vectors.

Source of the measures: arXiv 2604.17177. The Procrustes distance is
`layerwise.signals.similarity`'s.
"""

import numpy as np

from layerwise.errors import BadInputError
from layerwise.seeds import numpy_generator
from layerwise.shapes import Array, Float64

#: Coordinates that mean rows are projected to.
PROJECTED = (128, 32)

#: Vectors below this share of what they were made of are rounding.
_NOTHING = 1e-12


def cosine(first: Float64[Array, "d"], second: Float64[Array, "d"]) -> float:
    """Return 1 - cos of the angle between two vectors, in [0, 2].

    Raises:
        BadInputError: One of them is zero, so has no direction.
    """
    sizes = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if min(sizes) == 0.0:
        msg = "gradients without a direction"
        raise BadInputError(msg, value="a mean of zero", expected="gradients that do not cancel")
    # |x/|x| - y/|y||^2 / 2 is 1 - cos without the cancellation.
    apart = first / sizes[0] - second / sizes[1]
    return min(float(apart @ apart) / 2.0, 2.0)


def pearson(first: Float64[Array, "d"], second: Float64[Array, "d"]) -> float:
    """Return 1 - Pearson correlation of two vectors over their coordinates, in [0, 2].

    Raises:
        BadInputError: One of them is the same in all coordinates.
    """
    centred = [v - v.mean() for v in (first, second)]
    pairs = zip(centred, (first, second), strict=True)
    if any(np.linalg.norm(c) <= _NOTHING * np.linalg.norm(v) for c, v in pairs):
        msg = "gradients whose mean is the same in all coordinates"
        raise BadInputError(msg, expected="a mean that varies over coordinates")
    return cosine(centred[0], centred[1])


def projected(vector: Float64[Array, "d"], *, width: int, seed: int) -> Float64[Array, "k"]:
    """Return `vector` under a Gaussian projection to `width` coordinates, fixed by `seed`.

    Entries are independent, of mean 0 and variance 1 / `width`, so that lengths and angles are kept
    on average: Johnson and Lindenstrauss, Extensions of Lipschitz mappings into a Hilbert space
    (1984); Gaussian entries as in Dasgupta and Gupta (2003).
    """
    random = numpy_generator(seed, "distance projection", width)
    return vector @ random.standard_normal((len(vector), width)) / np.sqrt(width)


def coherence(mean: Float64[Array, "d"], deviation: Float64[Array, "d"]) -> float:
    """Mean over coordinates of |mean| / standard deviation; those that never vary are left out.

    Raises:
        BadInputError: No coordinate varies.
    """
    varies = deviation > _NOTHING * np.abs(mean)
    if not varies.any():
        msg = "gradients that are the same for every example"
        raise BadInputError(msg, expected="rows that differ")
    return float((np.abs(mean[varies]) / deviation[varies]).mean())
