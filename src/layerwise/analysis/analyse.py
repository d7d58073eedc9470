"""The whole analysis of a table of runs."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from layerwise.analysis.concordance import (
    NO_OBJECTIVE,
    concordance,
    distance_points,
    fit_lines,
    pooled,
    sign_tests,
    standardise,
)
from layerwise.analysis.equal_step_slopes import equal_step, same_seeds, sign_counts
from layerwise.analysis.names import ALL, EQUAL_STEP, FIVE, KEYS, METRICS
from layerwise.analysis.record import Analysis, AnalysisSettings, ModelRow, RunSlope, rows_of
from layerwise.analysis.run_tables import RunTables
from layerwise.analysis.seed_slopes import SeedSlopes, mean_slopes, seed_slopes
from layerwise.analysis.slopes import disagreements, negative, shares, slope_table, widths
from layerwise.intervals import FEWEST, LEVEL
from layerwise.provenance import Provenance


def analyse_runs(
    runs: RunTables,
    *,
    provenance: Provenance,
    placement: str = ALL,
    threshold: float = 1.5,
) -> Analysis:
    """Analyse `runs` after arXiv 2604.17177.

    Slopes, their signs and where metrics disagree are of every run; all else is made from the runs
    of one placement.

    Args:
        runs: The tables.
        provenance: What made the analysis.
        placement: Which runs are compared with each other; ``all`` are those on all blocks.
        threshold: Residual standard deviations, above 0, beyond which a point is an anomaly.
    """
    slopes = slope_table(runs)
    chosen = slopes[slopes["placement"] == placement]
    profiles = runs.profiles[runs.profiles["placement"] == placement]
    means, pairs = seed_slopes(chosen), seed_slopes(same_seeds(chosen))
    equal, rows = equal_step(pairs, runs.models), concordance(means, runs.distances)
    points = distance_points(means, runs.distances)
    lines = fit_lines(points)
    return Analysis(
        source=runs.source,
        sha256=runs.sha256,
        settings=AnalysisSettings(placement, threshold, LEVEL),
        models=_models(runs),
        slopes=rows_of(slopes, RunSlope),
        shares=shares(slopes),
        negative=negative(slopes),
        disagreements=disagreements(slopes),
        mean_slopes=mean_slopes(means),
        equal_step=equal,
        sign_counts=sign_counts(equal),
        widths=widths(replace(runs, profiles=profiles)),
        concordance=rows if points else (),
        sign_tests=sign_tests(rows),
        pooled=pooled(points),
        fits=lines,
        points=standardise(points, lines, threshold=threshold),
        provenance=provenance,
        absent=dict(_absent(runs, chosen, has_points=bool(points), placement=placement)),
        notes=tuple(_notes(runs, slopes, chosen, means)),
    )


def _models(runs: RunTables) -> tuple[ModelRow, ...]:
    table = runs.profiles.drop_duplicates(list(KEYS))
    counts = table.groupby("model").agg(runs=("seed", "size"), objectives=("objective", "nunique"))
    return rows_of(runs.models.merge(counts.reset_index(), on="model", how="left"), ModelRow)


def _absent(
    runs: RunTables, chosen: pd.DataFrame, *, has_points: bool, placement: str
) -> Iterator[tuple[str, str]]:
    """Yield each part that could not be made, with its reason."""
    if chosen.empty:
        found = ", ".join(map(repr, runs.profiles["placement"].unique()))
        reason = f"no run has the placement {placement!r}; there is {found}"
        yield from ((part, reason) for part in ("equal_step", "widths", "concordance", "intervals"))
        return
    if EQUAL_STEP not in set(chosen["condition"]):
        yield "equal_step", "no run is under equal-step"
    five = chosen[chosen["condition"].isin(FIVE)]
    if "cka" not in set(five["metric"]):
        yield "widths", "no run under the five standard conditions has a CKA profile"
    if not has_points:
        if runs.distances.empty:
            reason = "the distances of objectives were not measured"
        elif five.empty:
            reason = "no run is under the five standard conditions"
        else:
            reason = NO_OBJECTIVE
        yield "concordance", reason
    if (seeds := chosen["seed"].nunique()) < FEWEST:
        told = "there is one seed" if seeds == 1 else "there are two seeds"
        yield "intervals", f"{told}, of {FEWEST} at least"


def _notes(
    runs: RunTables, slopes: pd.DataFrame, chosen: pd.DataFrame, means: SeedSlopes
) -> Iterator[str]:
    """Yield what a reader should know of the runs."""
    yield from runs.notes
    for metric in METRICS:
        if metric not in set(slopes["metric"]):
            yield f"no run has a {metric} profile"
    if 0 < len(chosen) < len(slopes):
        others = slopes.loc[~slopes.index.isin(chosen.index)].drop_duplicates(list(KEYS))
        count = f"{len(others)} runs" if len(others) > 1 else "1 run"
        yield f"of other placements: {count}, among the slopes and their signs and in no other part"
    conditions: dict[str, dict[str, set[str]]] = {}
    for model, objective, condition, _ in means:
        if condition in FIVE:
            conditions.setdefault(model, {}).setdefault(objective, set()).add(condition)
    uneven = [m for m, own in conditions.items() if len(set(map(frozenset, own.values()))) > 1]
    if uneven:
        yield (
            "the slopes of objectives are averaged over different conditions in: "
            + ", ".join(uneven)
        )
