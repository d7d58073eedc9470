"""Does the farther objective have the steeper slope? In each model, and over all of them."""

from collections.abc import Iterable
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from layerwise.analysis.names import DISTANCES, METRICS
from layerwise.analysis.record import Concordance, Point, PooledCorrelation, SignTest
from layerwise.analysis.resamples import (
    ObjectiveSlopes,
    ResampledSlopes,
    average_conditions,
    interval,
)
from layerwise.analysis.slopes import count_signs
from layerwise.shapes import Array, Float64

__all__ = [
    "NO_OBJECTIVE",
    "by_pair",
    "concordance",
    "correlations",
    "distance_points",
    "pooled",
    "sign_tests",
]

NO_OBJECTIVE = "no objective has both a distance and a slope under the five standard conditions"
"""The reason where a correlation has no point."""

#: Two points always correlate perfectly.
_FEWEST = 3


def concordance(slopes: ResampledSlopes, distances: pd.DataFrame) -> tuple[Concordance, ...]:
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
            rows.append(Concordance(*names, len(at), least, float(rho[0]), *ends))
    return tuple(rows)


_Combination = tuple[tuple[str, str, str], ObjectiveSlopes, Float64[Array, " o"]]


def _combinations(slopes: ResampledSlopes, distances: pd.DataFrame) -> list[_Combination]:
    """Return each (model, distance, metric) with slopes, and its objectives with a distance.

    They are ordered by distance, then metric, then model.
    """
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
    x = _centre(stats.rankdata(figures[whole], axis=1))
    y = _centre(stats.rankdata(at)[None])[0]
    below = np.sqrt((x * x).sum(axis=1) * (y @ y))
    found = np.full(len(figures), np.nan)
    found[whole] = np.divide(x @ y, below, out=np.full_like(below, np.nan), where=below > 0)
    return found.clip(-1.0, 1.0)


def _centre(ranks: Float64[Array, "b o"]) -> Float64[Array, "b o"]:
    return ranks - ranks.mean(axis=1, keepdims=True)


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


def distance_points(slopes: ResampledSlopes, distances: pd.DataFrame) -> tuple[Point, ...]:
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
