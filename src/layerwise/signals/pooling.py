"""One slope out of several seeds', with an interval that both probes and seeds widen."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

__all__ = ["pooled"]


def pooled(
    values: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    *,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Return the mean of `values`, and the lower and upper end of its interval.

    Each value has an interval of its own over probe inputs, `lows` to `highs`. All seeds are shown
    the same probes, so those errors do not average out: the mean's is at most the mean of theirs,
    which is what is taken. Seeds are independent: theirs is Student's t with one less than their
    number as degrees of freedom. The two are joined in quadrature, each side for itself. A single
    value keeps its interval.

    Args:
        values: One a seed.
        lows: The lower ends.
        highs: The upper ends.
        level: Of the intervals given and of the one that is returned.
    """
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if len(found) == 1:
        return mean, float(lows[0]), float(highs[0])
    spread = float(found.std(ddof=1)) / np.sqrt(len(found))
    seeds = float(stats.t.ppf((1.0 + level) / 2.0, len(found) - 1)) * spread
    below, above = (max(0.0, mean - float(np.mean(lows))), max(0.0, float(np.mean(highs)) - mean))
    return mean, mean - float(np.hypot(below, seeds)), mean + float(np.hypot(above, seeds))
