"""The percentile interval of resampled figures."""

import numpy as np


def percentiles(figures: np.ndarray) -> tuple[float, float]:
    """Return both ends of the percentile interval (95 %) of resampled figures (Efron 1979)."""
    low, high = np.quantile(figures, [0.025, 0.975])
    return float(low), float(high)
