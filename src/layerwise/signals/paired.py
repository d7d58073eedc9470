"""How sure a mean over seeds is, by the bootstrap, with few seeds taken for what they are."""

import numpy as np
from scipy.stats import norm, t

from layerwise.shapes import Array, Float64

__all__ = ["LEVEL", "REPLICATES", "seed_interval"]

#: Coverage of the intervals.
LEVEL = 0.95
#: Resamples of the seeds.
REPLICATES = 4000


def seed_interval(values: Float64[Array, " s"], *, seed: int = 0) -> tuple[float, float] | None:
    """Return both ends of the interval of the mean of one value a seed; None with fewer than two.

    The percentile interval of resampled means, widened about the mean (ours). Of n values it is
    too narrow, and by far so where n is small: n = 3 resamples never leave the three values. It is
    stretched by sqrt(n / (n - 1)) t / z, with t and z the quantiles of Student's t with n - 1
    degrees of freedom and of the normal distribution, which makes it right for normal values.
    Values that are paired (differences, seed by seed) are given as one value a seed.

    Args:
        values: One number a seed.
        seed: Of the resamples, which are the same for all values of as many seeds.
    """
    count = len(values)
    if count < 2:
        return None
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=REPLICATES)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn @ values / count, [tail, 1 - tail])
    mean, stretch = float(values.mean()), _stretch(count, tail)
    return mean - stretch * (mean - float(low)), mean + stretch * (float(high) - mean)


def _stretch(count: int, tail: float) -> float:
    few = float(np.sqrt(count / (count - 1)) * t.ppf(1 - tail, count - 1))
    return few / float(norm.ppf(1 - tail))
