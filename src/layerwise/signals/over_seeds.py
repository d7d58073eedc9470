"""Means over seeds with how sure they are: few seeds are taken for what they are."""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri, stdtrit

from layerwise.shapes import Array, Float64

#: Coverage of the intervals.
LEVEL = 0.95
#: Resamples of the seeds.
REPLICATES = 4000


def seed_interval(values: Float64[Array, " s"]) -> tuple[float, float] | None:
    """Return both ends of the interval of the mean of one value a seed; None with fewer than two.

    The percentile interval of resampled means, widened about the mean (ours). Of n values it is
    too narrow, and by far so where n is small: n = 3 resamples never leave the three values. It is
    stretched by sqrt(n / (n - 1)) t / z, with t and z the quantiles of Student's t with n - 1
    degrees of freedom and of the normal distribution, which makes it right for normal values.
    Values that are paired (differences, seed by seed) are given as one value a seed. Resamples are
    the same for all values of as many seeds.
    """
    count = len(values)
    if count < 2:
        return None
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=REPLICATES)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn @ values / count, [tail, 1 - tail])
    few = float(np.sqrt(count / (count - 1)) * stdtrit(count - 1, 1 - tail))
    mean, stretch = float(values.mean()), few / float(ndtri(1 - tail))
    return mean - stretch * (mean - float(low)), mean + stretch * (float(high) - mean)


def pooled(
    values: Sequence[float], lows: Sequence[float], highs: Sequence[float]
) -> tuple[float, float, float]:
    """Return the mean of `values`, and the lower and upper end of its interval.

    Each value has an interval of its own over probe inputs, `lows` to `highs`. All seeds are shown
    the same probes, so those errors do not average out: the mean's is at most the mean of theirs,
    which is what is taken. Seeds are independent: theirs is Student's t with one less than their
    number as degrees of freedom. The two are joined in quadrature, each side for itself. A single
    value keeps its interval. All are of the same level, 95 %.
    """
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if len(found) == 1:
        return mean, float(lows[0]), float(highs[0])
    spread = float(found.std(ddof=1)) / np.sqrt(len(found))
    seeds = float(stdtrit(len(found) - 1, (1.0 + LEVEL) / 2.0)) * spread
    below, above = (max(0.0, mean - float(np.mean(lows))), max(0.0, float(np.mean(highs)) - mean))
    return mean, mean - float(np.hypot(below, seeds)), mean + float(np.hypot(above, seeds))
