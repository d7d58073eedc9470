"""Models and objectives that lie off the line of slope on distance."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from scipy import stats

from layerwise.analysis.concordance import by_pair
from layerwise.analysis.record import Fit, Point

__all__ = ["fit_lines", "standardise"]

#: Below this share of the spread of the slopes, what a line leaves over is rounding.
_ROUNDING = 1e-9


def fit_lines(points: Iterable[Point]) -> tuple[Fit, ...]:
    """Fit the least-squares line of each distance and metric through all its points."""
    return tuple(_fit(names, part) for names, part in by_pair(points).items())


def _fit(names: tuple[str, str], points: list[Point]) -> Fit:
    at = np.array([point.at for point in points], dtype=np.float64)
    slopes = np.array([point.slope for point in points], dtype=np.float64)
    if len(points) < 3:
        return Fit(*names, len(points), reason=f"{len(points)} of at least 3 points")
    if np.ptp(at) == 0:
        return Fit(*names, len(points), reason="all distances are the same")
    line = stats.linregress(at, slopes)
    intercept, gradient = float(line.intercept), float(line.slope)
    residuals = slopes - (intercept + gradient * at)
    deviation = float(np.sqrt(residuals @ residuals / (len(points) - 2)))
    if deviation <= _ROUNDING * np.abs(slopes).max():
        reason = "the points lie on the line"
        return Fit(*names, len(points), intercept, gradient, reason=reason)
    return Fit(*names, len(points), intercept, gradient, deviation)


def standardise(
    points: Iterable[Point], lines: Iterable[Fit], *, threshold: float
) -> tuple[Point, ...]:
    """Return the points with their residuals in residual standard deviations of their line.

    Args:
        points: Without residuals.
        lines: From `fit_lines`.
        threshold: A point beyond it is an anomaly.
    """
    by_names = {(line.distance, line.metric): line for line in lines}
    return tuple(_residual(p, by_names[p.distance, p.metric], threshold) for p in points)


def _residual(point: Point, line: Fit, threshold: float) -> Point:
    if line.intercept is None or line.gradient is None or line.deviation is None:
        return point
    residual = (point.slope - line.intercept - line.gradient * point.at) / line.deviation
    return replace(point, residual=residual, anomaly=abs(residual) > threshold)
