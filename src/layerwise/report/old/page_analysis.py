"""An analysis's page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from layerwise.analysis.names import DEPTHS, DISTANCES
from layerwise.analysis.record import (
    Analysis,
    Concordance,
    EqualStepSlope,
    Point,
    PooledCorrelation,
    SignCount,
)
from layerwise.report.old.charts_analysis import MOST_ROWS, analysis_charts
from layerwise.report.old.drawing import PAGE, Spec
from layerwise.report.old.page import Figure, Grid, Made, figures, render
from layerwise.report.old.story import percent
from layerwise.report.old.story_analysis import (
    DISTANCE_NAMES,
    METRIC_NAMES,
    absences,
    analysis_headline,
    analysis_reasons,
    analysis_title,
    condition_name,
    fixed,
    main_metric,
    metrics_of,
    p_text,
    run_name,
    seeds_of,
    share_of,
    with_ends,
)
from layerwise.report.old.text import counted, shown

__all__ = ["analysis_html"]

_CAPTIONS = {
    "slopes": "Points: the mean over the standard conditions. Ticks: each condition.",
    "equal-step": "Hollow: standard. Filled: equal-step. Bands: intervals over seeds, if any.",
    "widths": "The seven depths of a model make 100 %.",
    "distance": (
        "Faint: the objectives of one model. Dashed: the line of all points. Filled and named: "
        "anomalies."
    ),
}


def analysis_html(analysis: Analysis) -> bytes:
    """The report of `analysis` as one UTF-8 HTML file: what runs have in common, charts, tables.

    It is closed in as every page of `layerwise.report.old.page`: offline, escaped, nothing foreign.
    """
    specs = analysis_charts(analysis, theme=PAGE)
    context = {
        "kind": "Analysis of many runs",
        "title": analysis_title(analysis),
        "lede": _lede(analysis),
        "headline": analysis_headline(analysis),
        "reasons": analysis_reasons(analysis),
        "facts": _facts(analysis),
        "absent": [(part, shown(reason, limit=400)) for part, reason in absences(analysis)],
        **_figures(analysis, specs),
        **_slope_tables(analysis),
        **_other_tables(analysis),
        "threshold": fixed(analysis.settings.threshold, digits=2),
        "models": _models(analysis),
        "made": _made(analysis),
    }
    return render("analysis.html.j2", specs, context)


def _lede(analysis: Analysis) -> str:
    runs = sum(row.runs for row in analysis.models)
    seeds = len(seeds_of(analysis))
    parts = [counted(runs, "run"), counted(len(analysis.models), "model"), counted(seeds, "seed")]
    return " · ".join(parts)


def _facts(analysis: Analysis) -> list[tuple[str, str, str]]:
    """Key figures: label, number, what it says."""
    signs = [
        (
            f"Positive, {METRIC_NAMES[s.metric]}",
            f"{s.positive:,} of {s.runs:,}",
            _under(s.conditions),
        )
        for metric in metrics_of(analysis)
        for s in [share_of(analysis, metric), share_of(analysis, metric, "equal-step")]
        if s is not None
    ]
    tests = [
        (
            f"Concordant, {DISTANCE_NAMES[t.distance]}",
            f"{t.positive:,} of {t.models:,}",
            f"models; sign test p = {p_text(t.p_value)}",
        )
        for t in analysis.sign_tests
        if t.metric == main_metric(analysis)
    ]
    return [*signs, *tests]


def _under(conditions: str) -> str:
    return f"runs, {condition_name(conditions)}"


def _figures(analysis: Analysis, specs: Mapping[str, Spec]) -> dict[str, list[Figure]]:
    """The figures by the part of the page that they stand in."""
    pairs = len({(row.model, row.objective) for row in analysis.mean_slopes})
    cut = f" The first {MOST_ROWS} of {pairs:,} are drawn." if pairs > MOST_ROWS else ""
    captions = {name: ("", _caption(name) + cut) for name in specs}
    drawn = figures(specs, captions)

    def group(start: str) -> list[Figure]:
        return [figure for name, figure in drawn.items() if name.startswith(start)]

    return {
        "slope_figures": group("slopes"),
        "equal_figures": group("equal-step"),
        "width_figures": group("widths"),
        "distance_figures": group("distance"),
    }


def _caption(name: str) -> str:
    return next(told for start, told in _CAPTIONS.items() if name.startswith(start))


def _grid(name: str, titles: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> Grid:
    """A table, its first column headed by the first of `titles`."""
    columns = [(title, "") for title in titles[1:]]
    return Grid(name, titles[0], columns, [(head, False, cells) for head, cells in rows])


# --- Slopes -----------------------------------------------------------------------------------


def _slope_tables(analysis: Analysis) -> dict[str, Any]:
    only = metrics_of(analysis)[0] if len(metrics_of(analysis)) == 1 else None
    none = f"Runs have one metric, the {METRIC_NAMES[only]}." if only else "Nowhere."
    return {
        "shares": _shares(analysis),
        "negative": _negative(analysis),
        "disagreements": _disagreements(analysis),
        "no_disagreement": none,
    }


def _shares(analysis: Analysis) -> Grid:
    titles = ("Conditions", "Metric", "Runs", "Positive", "Negative", "Zero", "Share positive")
    rows = [
        (
            condition_name(row.conditions),
            [
                METRIC_NAMES[row.metric],
                *(f"{n:,}" for n in (row.runs, row.positive, row.negative, row.zero)),
                f"{row.share:.1%}".replace("%", " %"),
            ],
        )
        for row in analysis.shares
    ]
    return _grid("shares", titles, rows)


def _negative(analysis: Analysis) -> Grid:
    seeded = len(seeds_of(analysis)) > 1
    rows = [
        (run_name(run, seeded=seeded), [METRIC_NAMES[run.metric], fixed(run.slope)])
        for run in analysis.negative
    ]
    return _grid("negative", ("Run", "Metric", "Slope"), rows)


def _disagreements(analysis: Analysis) -> Grid:
    seeded = len(seeds_of(analysis)) > 1
    titles = ("Run", *(f"Slope, {METRIC_NAMES[m]}" for m in ("procrustes", "cka")))
    rows = [
        (run_name(row, seeded=seeded), [fixed(row.procrustes), fixed(row.cka)])
        for row in analysis.disagreements
    ]
    return _grid("disagreements", titles, rows)


# --- The other parts --------------------------------------------------------------------------


def _other_tables(analysis: Analysis) -> dict[str, Grid]:
    return {
        "equal_step": _equal_step(analysis.equal_step),
        "sign_counts": _sign_counts(analysis),
        "widths": _widths(analysis),
        "concordance": _concordance(analysis),
        "pooled": _pooled(analysis.pooled),
        "anomalies": _anomalies(analysis.anomalies),
    }


def _equal_step(rows: Sequence[EqualStepSlope]) -> Grid:
    """Every pair, both metrics beside each other."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    by_key = {(row.model, row.objective, row.metric): row for row in rows}
    keys = dict.fromkeys((row.model, row.objective, row.block) for row in rows)
    names = ("Standard", "Equal-step", "Ratio")
    columns = [("Block", ""), *((name, METRIC_NAMES[m]) for m in metrics for name in names)]
    lines = [
        (
            f"{shown(model, limit=60)}, {shown(objective, limit=40)}",
            False,
            [shown(block, limit=20)]
            + [cell for m in metrics for cell in _pair(by_key.get((model, objective, m)))],
        )
        for model, objective, block in keys
    ]
    return Grid("equal-rows", "Model, objective", columns, lines)


def _pair(row: EqualStepSlope | None) -> list[str]:
    if row is None:
        return ["–"] * 3
    equal = with_ends(row.equal_step, row.low, row.high)
    return [fixed(row.standard), equal, with_ends(row.ratio, row.ratio_low, row.ratio_high)]


def _sign_counts(analysis: Analysis) -> Grid:
    """How many slopes are positive, a line a kind of block and family, both metrics together."""
    metrics = list(dict.fromkeys(count.metric for count in analysis.sign_counts))
    found = {(c.block, c.family, c.metric): c for c in analysis.sign_counts}
    keys = dict.fromkeys((c.block, c.family) for c in analysis.sign_counts)
    rows = [
        (
            shown(block or "all", limit=30),
            block is None and family is None,
            [
                shown(family or "all", limit=30),
                *(_positive(found.get((block, family, metric))) for metric in metrics),
            ],
        )
        for block, family in keys
    ]
    columns = [("Objectives", ""), *(("Positive", METRIC_NAMES[m]) for m in metrics)]
    return Grid("sign-counts", "Blocks", columns, rows)


def _positive(count: SignCount | None) -> str:
    if count is None:
        return "–"
    zero = f", {count.zero:,} zero" if count.zero else ""
    return f"{count.positive:,} of {count.pairs:,}{zero}"


def _widths(analysis: Analysis) -> Grid:
    titles = ["Model", "Runs", "Unchanged runs", *(percent(float(d[1:])) for d in DEPTHS)]
    rows = [
        (
            shown(row.model),
            [f"{row.runs:,}", f"{row.still:,}", *(map(fixed, row.shares or [None] * len(DEPTHS)))],
        )
        for row in analysis.widths
    ]
    return _grid("widths", titles, rows)


def _concordance(analysis: Analysis) -> Grid:
    """Spearman correlations, a model a line; where there is none, why."""
    metrics = metrics_of(analysis)
    columns = [(distance, metric) for distance in DISTANCES for metric in metrics]
    by_key = {(row.model, row.distance, row.metric): row for row in analysis.concordance}
    titles = [(f"By {DISTANCE_NAMES[d]}", f"slope of {METRIC_NAMES[m]}") for d, m in columns]
    models = dict.fromkeys(row.model for row in analysis.concordance)
    rows = [
        (shown(model), False, [_rho(by_key.get((model, *names))) for names in columns])
        for model in models
    ]
    tests = {(t.distance, t.metric): t for t in analysis.sign_tests}
    signs = [tests.get(names) for names in columns]
    rows += [
        ("Positive", True, [f"{t.positive} of {t.models}" if t else "–" for t in signs]),
        ("Sign test, p", True, [p_text(t.p_value) if t else "–" for t in signs]),
    ]
    return Grid("concordance", "Model", titles, rows if models else [])


def _rho(row: Concordance | None) -> str:
    if row is None:
        return "–"
    return with_ends(row.rho, row.low, row.high) if row.rho is not None else str(row.reason)


def _pooled(rows: Sequence[PooledCorrelation]) -> Grid:
    titles = ("Distance", "Slope of", "References", "Points", "Spearman", "p")
    lines = [
        (
            DISTANCE_NAMES[row.distance],
            [
                METRIC_NAMES[row.metric],
                "with" if row.references else "without",
                f"{row.points:,}",
                fixed(row.rho) if row.reason is None else row.reason,
                p_text(row.p_value),
            ],
        )
        for row in rows
    ]
    return _grid("pooled", titles, lines)


def _anomalies(points: Iterable[Point]) -> Grid:
    titles = ("Model, objective", "Distance by", "Slope of", "Distance", "Slope", "Residual, sd")
    rows = [
        (
            f"{shown(p.model, limit=60)}, {shown(p.objective, limit=40)}",
            [
                DISTANCE_NAMES[p.distance],
                METRIC_NAMES[p.metric],
                fixed(p.at),
                fixed(p.slope),
                fixed(p.residual, digits=2),
            ],
        )
        for p in points
    ]
    return _grid("anomalies", titles, rows)


def _models(analysis: Analysis) -> Grid:
    titles = ("Model", "Family", "Block", "Layers", "Runs", "Objectives")
    rows = [
        (
            shown(row.model, limit=100),
            [
                shown(row.family, limit=40),
                shown(row.block, limit=40),
                "–" if row.layers is None else f"{row.layers:,}",
                f"{row.runs:,}",
                f"{row.objectives:,}",
            ],
        )
        for row in analysis.models
    ]
    return _grid("models", titles, rows)


def _made(analysis: Analysis) -> Made:
    chosen = analysis.settings
    facts = [
        ("Runs", analysis.source),
        ("Runs SHA-256", analysis.sha256),
        ("Placement compared", chosen.placement),
        ("Anomalies from", f"{chosen.threshold:g} residual standard deviations"),
        ("Bootstrap", f"{chosen.bootstrap} resamples of seeds, {chosen.level:.0%} intervals"),
        ("Seed", chosen.seed),
    ]
    heading = "How this analysis was made"
    return Made.by(
        analysis.provenance, heading=heading, notes=analysis.notes, facts=facts, hashes={}
    )
