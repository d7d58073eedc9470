"""Does the farther objective have the steeper slope? In each model, and over all of them."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from layerwise.analysis.cells import Averaged, Cells, averaged
from layerwise.analysis.intervals import interval
from layerwise.analysis.names import DISTANCES, METRICS
from layerwise.analysis.record import Concordance, Point, Pooled, SignTest
from layerwise.shapes import Array, Float64

__all__ = ["by_pair", "concordance", "correlations", "distance_points", "pooled", "sign_tests"]

#: Two points always correlate perfectly.
_FEWEST = 3


def concordance(cells: Cells, distances: pd.DataFrame) -> tuple[Concordance, ...]:
    """For each model, distance and metric, the Spearman correlation over its objectives."""
    there = dict.fromkeys((model, metric) for model, _, _, metric in cells)
    return tuple(
        _row((model, distance, metric), *_matched(cells, distances, model, distance, metric))
        for distance in DISTANCES
        for metric in METRICS
        for model in dict.fromkeys(model for model, _ in there)
        if (model, metric) in there
    )


def _matched(
    cells: Cells, distances: pd.DataFrame, model: str, distance: str, metric: str
) -> tuple[Averaged, Float64[Array, " o"]]:
    """The slopes of the objectives of `model` that have a distance, and these distances."""
    own = distances[(distances["model"] == model) & distances[distance].notna()]
    at: Mapping[str, float] = dict(zip(own["objective"], own[distance], strict=True))
    slopes = averaged(cells, model=model, metric=metric, objectives=list(at))
    return slopes, np.array([at[name] for name in slopes.objectives], dtype=np.float64)


def _row(names: tuple[str, str, str], slopes: Averaged, at: Float64[Array, " o"]) -> Concordance:
    least = min(slopes.conditions, default=0)
    reason = _undefined(slopes.figures[0], at)
    if reason:
        return Concordance(*names, len(at), least, reason=reason)
    rho = correlations(slopes.figures, at)
    ends = interval(rho, seeds=slopes.seeds)
    return Concordance(*names, len(at), least, float(rho[0]), *ends)


def _undefined(slopes: Float64[Array, " o"], at: Float64[Array, " o"]) -> str | None:
    """Why there is no correlation, if there is none."""
    if not len(at):
        return "no objective has both a distance and a slope under the five standard conditions"
    if len(at) < _FEWEST:
        return f"{len(at)} of at least {_FEWEST} objectives"
    if np.ptp(at) == 0:
        return "all distances are the same"
    return "all slopes are the same" if np.ptp(slopes) == 0 else None


def correlations(figures: Float64[Array, "b o"], at: Float64[Array, " o"]) -> Float64[Array, " b"]:
    """The Spearman correlation of each row with `at`; NaN where a row is constant or has a NaN.

    Ties share the mean of their ranks.
    """
    whole = np.isfinite(figures).all(axis=1)
    x = _centred(stats.rankdata(figures[whole], axis=1))
    y = _centred(stats.rankdata(at)[None])[0]
    below = np.sqrt((x * x).sum(axis=1) * (y @ y))
    found = np.full(len(figures), np.nan)
    found[whole] = np.divide(x @ y, below, out=np.full_like(below, np.nan), where=below > 0)
    return found.clip(-1.0, 1.0)


def _centred(ranks: Float64[Array, "b o"]) -> Float64[Array, "b o"]:
    return ranks - ranks.mean(axis=1, keepdims=True)


def sign_tests(rows: Iterable[Concordance]) -> tuple[SignTest, ...]:
    """Two-sided exact sign test across models, for each distance and metric."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.rho is not None:
            found.setdefault((row.distance, row.metric), []).append(row.rho)
    return tuple(_sign_test(names, np.sign(signs)) for names, signs in found.items())


def _sign_test(names: tuple[str, str], signs: Float64[Array, " m"]) -> SignTest:
    positive, negative, zero = (int((signs == sign).sum()) for sign in (1, -1, 0))
    decided = positive + negative
    p_value = float(stats.binomtest(positive, decided).pvalue) if decided else None
    return SignTest(*names, len(signs), positive, negative, zero, p_value)


def distance_points(cells: Cells, distances: pd.DataFrame) -> tuple[Point, ...]:
    """Every model and objective that has a distance and a slope, without residuals."""
    models = dict.fromkeys(model for model, *_ in cells)
    return tuple(
        Point(model, objective, distance, metric, float(where), float(slope), conditions)
        for distance in DISTANCES
        for metric in METRICS
        for model in models
        for slopes, at in [_matched(cells, distances, model, distance, metric)]
        for objective, where, slope, conditions in zip(
            slopes.objectives, at, slopes.figures[0], slopes.conditions, strict=True
        )
    )


def by_pair(points: Iterable[Point]) -> dict[tuple[str, str], list[Point]]:
    """The points of each pair of distance and metric."""
    found: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        found.setdefault((point.distance, point.metric), []).append(point)
    return found


def pooled(points: Iterable[Point]) -> tuple[Pooled, ...]:
    """The Spearman correlation of all points of each distance and metric.

    With the references, and without them.
    """
    return tuple(
        _pooled(names, [p for p in part if references or p.at > 0], references=references)
        for names, part in by_pair(points).items()
        for references in (True, False)
    )


def _pooled(names: tuple[str, str], points: list[Point], *, references: bool) -> Pooled:
    at = np.array([point.at for point in points], dtype=np.float64)
    slopes = np.array([point.slope for point in points], dtype=np.float64)
    reason = _undefined(slopes, at)
    if reason:
        return Pooled(*names, references, len(points), reason=reason)
    found = stats.spearmanr(at, slopes)
    return Pooled(*names, references, len(points), float(found.statistic), float(found.pvalue))
