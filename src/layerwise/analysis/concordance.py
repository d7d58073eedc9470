"""Does the farther objective have the steeper slope, in each model and over all? Which do not?"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from layerwise.analysis.names import DISTANCES, METRICS
from layerwise.analysis.record import Concordance, Fit, Point, PooledCorrelation, SignTest
from layerwise.analysis.seed_slopes import (
    ObjectiveSlopes,
    SeedSlopes,
    average_conditions,
    interval,
)
from layerwise.analysis.slopes import count_signs
from layerwise.shapes import Array, Float64

NO_OBJECTIVE = "no objective has both a distance and a slope under the five standard conditions"
"""The reason where a correlation has no point."""

#: Two points always correlate perfectly.
_FEWEST = 3

#: Below this share of the spread of the slopes, what a line leaves over is rounding.
_ROUNDING = 1e-9


def concordance(slopes: SeedSlopes, distances: pd.DataFrame) -> tuple[Concordance, ...]:
    """Correlate slope with distance over each model's objectives, by distance and metric."""
    rows = []
    for (model, distance, metric), own, at in _combinations(slopes, distances):
        names, least = (model, distance, metric), min(own.conditions, default=0)
        reason = _undefined(own.figures[0], at)
        if reason:
            rows.append(Concordance(*names, len(at), least, reason=reason))
        else:
            rho = correlations(own.figures, at)
            ends = interval(rho, seeds=own.seeds)
            low, high = (end if end is None else max(-1.0, min(end, 1.0)) for end in ends)
            rows.append(Concordance(*names, len(at), least, float(rho[0]), low, high))
    return tuple(rows)


_Combination = tuple[tuple[str, str, str], ObjectiveSlopes, Float64[Array, " o"]]


def _combinations(slopes: SeedSlopes, distances: pd.DataFrame) -> list[_Combination]:
    """Return each (model, distance, metric) with slopes, and its objectives with a distance."""
    known = {(model, metric) for model, _, _, metric in slopes}
    models = dict.fromkeys(model for model, *_ in slopes)
    found: list[_Combination] = []
    for distance, metric, model in product(DISTANCES, METRICS, models):
        if (model, metric) in known:
            own = distances[(distances["model"] == model) & distances[distance].notna()]
            far = own.set_index("objective")[distance]
            mean = average_conditions(slopes, model=model, metric=metric, objectives=far.index)
            at = far.loc[list(mean.objectives)].to_numpy(dtype=np.float64)
            found.append(((model, distance, metric), mean, at))
    return found


def _undefined(slopes: Float64[Array, " o"], at: Float64[Array, " o"]) -> str | None:
    """Return why there is no correlation, if there is none."""
    if not len(at):
        return NO_OBJECTIVE
    if len(at) < _FEWEST:
        return f"{len(at)} of at least {_FEWEST} objectives"
    if np.ptp(at) == 0:
        return "all distances are the same"
    return "all slopes are the same" if np.ptp(slopes) == 0 else None


def correlations(figures: Float64[Array, "b o"], at: Float64[Array, " o"]) -> Float64[Array, " b"]:
    """Return each row's Spearman correlation with `at`; NaN where it is constant or has a NaN.

    Ties share the mean of their ranks.
    """
    whole = np.isfinite(figures).all(axis=1)
    middle = (len(at) + 1) / 2
    x, y = stats.rankdata(figures[whole], axis=1) - middle, stats.rankdata(at) - middle
    below = np.sqrt((x * x).sum(axis=1) * (y @ y))
    found = np.full(len(figures), np.nan)
    found[whole] = np.divide(x @ y, below, out=np.full_like(below, np.nan), where=below > 0)
    return found.clip(-1.0, 1.0)


def sign_tests(rows: Iterable[Concordance]) -> tuple[SignTest, ...]:
    """Test the signs across models, two-sided and exactly, for each distance and metric."""
    by_names: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.rho is not None:
            by_names.setdefault((row.distance, row.metric), []).append(row.rho)
    tests = []
    for names, rhos in by_names.items():
        positive, negative, zero = count_signs(rhos)
        decided = positive + negative
        p_value = float(stats.binomtest(positive, decided).pvalue) if decided else None
        tests.append(SignTest(*names, len(rhos), positive, negative, zero, p_value))
    return tuple(tests)


def distance_points(slopes: SeedSlopes, distances: pd.DataFrame) -> tuple[Point, ...]:
    """Return every model and objective that has a distance and a slope, without residuals."""
    return tuple(
        Point(model, objective, distance, metric, float(where), float(slope), conditions)
        for (model, distance, metric), own, at in _combinations(slopes, distances)
        for objective, where, slope, conditions in zip(
            own.objectives, at, own.figures[0], own.conditions, strict=True
        )
    )


def by_pair(points: Iterable[Point]) -> dict[tuple[str, str], list[Point]]:
    """Return the points of each pair of distance and metric."""
    found: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        found.setdefault((point.distance, point.metric), []).append(point)
    return found


def pooled(points: Iterable[Point]) -> tuple[PooledCorrelation, ...]:
    """Correlate all points of each distance and metric, with the references and without them."""
    rows = []
    for names, every in by_pair(points).items():
        for references in (True, False):
            part = [point for point in every if references or point.at > 0]
            at = np.array([point.at for point in part], dtype=np.float64)
            slopes = np.array([point.slope for point in part], dtype=np.float64)
            reason, rho, p_value = _undefined(slopes, at), None, None
            if not reason:
                found = stats.spearmanr(at, slopes)
                rho, p_value = float(found.statistic), float(found.pvalue)
            rows.append(PooledCorrelation(*names, references, len(part), rho, p_value, reason))
    return tuple(rows)


def fit_lines(points: Iterable[Point]) -> tuple[Fit, ...]:
    """Fit the least-squares line of each distance and metric, without references and with them.

    A reference is at distance 0 whatever its slope, so that it says nothing of how slopes go.
    """
    pairs = by_pair(points).items()
    return tuple(
        _fit((*names, references), [point for point in part if references or point.at > 0])
        for names, part in pairs
        for references in (False, True)
    )


def _fit(names: tuple[str, str, bool], points: list[Point]) -> Fit:
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
    """Return the points with their residuals in residual standard deviations of their lines.

    Args:
        points: Without residuals.
        lines: From `fit_lines`.
        threshold: A point beyond it is an anomaly.
    """
    by_names = {(line.distance, line.metric, line.references): line for line in lines}
    found = []
    for point in points:
        without, whole = (
            _residual(point, by_names.get((point.distance, point.metric, references)))
            for references in (False, True)
        )
        without = without if point.at > 0 else None
        found.append(
            replace(
                point,
                residual=without,
                anomaly=without is not None and abs(without) > threshold,
                residual_with=whole,
                anomaly_with=whole is not None and abs(whole) > threshold,
            )
        )
    return tuple(found)


def _residual(point: Point, line: Fit | None) -> float | None:
    if line is None or line.intercept is None or line.gradient is None or not line.deviation:
        return None
    return (point.slope - line.intercept - line.gradient * point.at) / line.deviation
