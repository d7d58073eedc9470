"""What many runs have in common: slopes, equal steps, widths, objective distances."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from layerwise.analysis.columns import COLUMNS
from layerwise.analysis.names import DEPTHS, FIVE, KEYS
from layerwise.analysis.record import Analysis, RunSlope, Share, SignCount
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.documents.analysis_charts import (
    DISTANCE_NAMES,
    METRIC_NAMES,
    drawings,
    main_metric,
    metrics_of,
)
from layerwise.report.numbers import NONE, counted
from layerwise.report.words import shown

_METRICS = {"procrustes": "Procrustes", "cka": "CKA"}
_PART_NAMES = {
    "equal_step": "Equal-step against standard",
    "widths": "Widths",
    "concordance": "Objective distance and slope",
    "intervals": "Intervals over seeds",
}
_WIDTHS = (
    "Each run's CKA-change profile divided by its sum, and the mean of those over the runs of a "
    "model."
)
_MEASURED = (
    "Distances were measured before any training. Slopes are means over the standard conditions."
)
_FIVE = "five-standard"
_NAMED, _MOST = 4, 12


def document(analysis: Analysis) -> b.Document:
    """Return the signs of slopes, what stands out by run and model, charts and every table."""
    charts = drawings(analysis)
    read: list[tuple[str, object]] = [("Runs", analysis.source), ("SHA-256", analysis.sha256)]
    read += parts.chosen(analysis.settings)
    absent = [(_PART_NAMES[part], reason) for part, reason in analysis.absent.items()]
    blocks: list[b.Block] = [
        b.Verdict(_headline(analysis), [*_reasons(analysis)]),
        *parts.facts_under("Not in this analysis", absent),
        *_slopes(analysis, charts),
        *(_equal_step(analysis, charts) if analysis.equal_step else ()),
        *(_widths(analysis, charts) if analysis.widths else ()),
        *(_distances(analysis, charts) if analysis.concordance else ()),
        b.Heading("Models"),
        _models(analysis),
    ]
    blocks += [
        *parts.glossary(*blocks),
        *parts.noted(analysis.notes),
        *parts.made("How this analysis was made", analysis.provenance, read),
    ]
    runs, seeds = _runs(analysis), len({row.seed for row in analysis.slopes})
    models = counted(len(analysis.models), "model")
    about = f"{counted(runs, 'run')} · {models} · {counted(seeds, 'seed')}"
    return b.Document("Analysis of many runs", shown(analysis.source, limit=160), about, blocks)


def p_text(p_value: float | None) -> str:
    """Return a p-value with two significant digits, down to 0.0001."""
    if p_value is None:
        return NONE
    return f"{p_value:.2g}" if p_value >= 1e-4 else "< 0.0001"


def _runs(analysis: Analysis) -> int:
    return sum(row.runs for row in analysis.models)


def _share(analysis: Analysis, metric: str) -> Share | None:
    found = (s for s in analysis.shares if (s.metric, s.conditions) == (metric, _FIVE))
    return next(found, None)


def _headline(analysis: Analysis) -> str:
    """Return how many slopes are positive, in one sentence."""
    share = _share(analysis, main_metric(analysis))
    if share is None:
        return "No run is under one of the five standard conditions."
    if share.zero == share.runs:
        return "Nothing changed by depth: every slope is 0."
    if share.positive == share.runs:
        whole = "the one standard run" if share.runs == 1 else f"all {share.runs:,} standard runs"
        return f"Change rises over depth in {whole}."
    return f"Change rises over depth in {share.positive:,} of {share.runs:,} standard runs."


def _reasons(analysis: Analysis) -> Iterator[str]:
    """Yield what the headline rests on, a sentence each."""
    metric = main_metric(analysis)
    found = [run for run in analysis.negative if run.metric == metric]
    if found:
        count = "" if len(found) == 1 else f"{len(found):,}: "
        yield f"It falls in {count}{_some(analysis, found)} ({METRIC_NAMES[metric]})."
    share = _share(analysis, "cka")
    if metric != "cka" and share is not None:
        differ = f"{counted(len(analysis.disagreements), 'run')} of {_runs(analysis):,}"
        yield (
            f"By CKA it rises in {share.positive:,} of {share.runs:,}; under any condition, "
            f"{differ} differ in sign between the two metrics."
        )
    counts = [c for c in analysis.sign_counts if c.metric == metric and not c.family]
    every = next((count for count in counts if not count.block), None)
    if every:
        kinds = [_kind(count) for count in counts if count.block]
        split = f": {', '.join(kinds)}" if len(kinds) > 1 else ""
        yield f"Under equal-step {every.positive:,} of {every.pairs:,} slopes are positive{split}."
    tests = [
        f"{test.positive:,} of {counted(test.models, 'model')} by {DISTANCE_NAMES[test.distance]} "
        f"(sign test p = {p_text(test.p_value)})"
        for test in analysis.sign_tests
        if test.metric == metric
    ]
    if tests:
        yield f"The farther objective has the steeper slope in {', and in '.join(tests)}."


def _run_keys(analysis: Analysis) -> list[str]:
    """Return the columns that tell the runs apart."""
    kept = ("model", "objective", "condition")
    several = [key for key in KEYS if len({getattr(row, key) for row in analysis.slopes}) > 1]
    return [key for key in KEYS if key in kept or key in several]


def _some(analysis: Analysis, runs: Sequence[RunSlope]) -> str:
    """Return the first few runs by name, and how many more there are."""
    keys = _run_keys(analysis)
    names = [
        ", ".join(f"seed {run.seed}" if key == "seed" else shown(getattr(run, key)) for key in keys)
        for run in runs[:_NAMED]
    ]
    more = [f"and {len(runs) - _NAMED:,} more"] if len(runs) > _NAMED else []
    return "; ".join([*names, *more])


def _kind(count: SignCount) -> str:
    words = {"none": "with neither kind of block", "unknown": "with blocks of an unknown kind"}
    where = words.get(str(count.block), f"with {shown(count.block, limit=40)} blocks")
    return f"{count.positive:,} of {count.pairs:,} {where}"


def _table(
    analysis: Analysis,
    part: str,
    keys: str,
    *,
    beside: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> b.Table:
    """Return a part of the analysis under the columns `keys`, with what is `beside` its models."""
    frame = analysis.frame(part)
    plain = frame.astype(object).where(frame.notna(), None).to_dict("records")
    rows = [_told({str(key): value for key, value in row.items()}, part) for row in plain]
    rows = [{**row, **(beside or {}).get(row.get("model", ""), {})} for row in rows]
    columns = [COLUMNS[key] for key in keys.split()]
    return b.Table(part.replace("_", "-"), columns, rows, most=_MOST, **more)


def _told(row: dict[str, Any], part: str) -> dict[str, Any]:
    """Return a row with the names that people read."""
    if "metric" in row:
        row["metric"] = _METRICS[row["metric"]]
    if "distance" in row:
        row["distance"] = DISTANCE_NAMES[row["distance"]]
    if part == "shares":
        five = row["conditions"] == _FIVE
        row["conditions"] = "five standard" if five else shown(row["conditions"], limit=40)
    if part == "sign_counts":
        row |= {key: row[key] or "all" for key in ("block", "family")}
    if part == "pooled":
        row["references"] = "with" if row["references"] else "without"
    return row


def _titled(
    title: str, table: b.Table, instead: str = "", *, detail: bool = False
) -> list[b.Block]:
    """Return a table under its heading; what to read `instead` where it has no rows."""
    return [b.Heading(title, 3, detail), table if table.rows or not instead else b.Text(instead)]


def _slopes(analysis: Analysis, charts: Mapping[str, b.Block]) -> Iterator[b.Block]:
    runs = " ".join(_run_keys(analysis))
    only = METRIC_NAMES[main_metric(analysis)] if len(metrics_of(analysis)) == 1 else ""
    nowhere = f"Runs have one metric, the {only}." if only else "Nowhere."
    yield b.Heading("Slopes")
    yield from (charts[name] for name in charts if name == "slopes")
    signs = "conditions metric runs positive negative zero share"
    yield from _titled("Signs", _table(analysis, "shares", signs))
    negative = _table(analysis, "negative", f"{runs} metric slope")
    yield from _titled("Negative under a standard condition", negative, "None.", detail=True)
    differ = _table(analysis, "disagreements", f"{runs} procrustes cka")
    title = "Where the two metrics differ in sign"
    yield from _titled(title, differ, nowhere, detail=not differ.rows)


def _equal_step(analysis: Analysis, charts: Mapping[str, b.Block]) -> Iterator[b.Block]:
    counts = enumerate(analysis.sign_counts)
    every = frozenset(n for n, c in counts if c.block is None and c.family is None)
    signs = "block family metric pairs positive negative zero"
    table = _table(analysis, "sign_counts", signs, marked=every, mark="all together")
    keys = "model objective metric block family seeds standard equal_step ratio reason"
    yield b.Heading("Equal-step against standard", detail=True)
    yield from (charts[name] for name in charts if name.startswith("equal-step"))
    yield from _titled("Signs under equal-step", table)
    yield from _titled("Every pair", _table(analysis, "equal_step", keys))


def _widths(analysis: Analysis, charts: Mapping[str, b.Block]) -> Iterator[b.Block]:
    yield from (b.Heading("Widths"), b.Text(_WIDTHS, quiet=True))
    yield from (charts[name] for name in charts if name == "widths")
    yield _table(analysis, "widths", f"model runs still {' '.join(DEPTHS)}")


def _distances(analysis: Analysis, charts: Mapping[str, b.Block]) -> Iterator[b.Block]:
    yield from (b.Heading("Objective distance and slope"), b.Text(_MEASURED, quiet=True))
    yield from (charts[name] for name in charts if name.startswith("distance"))
    for title, part, keys in (
        ("In each model", "concordance", "model distance metric objectives rho reason"),
        ("Signs over models", "sign_tests",
         "distance metric models positive negative zero p_value"),
        ("Over all models", "pooled", "distance metric references points rho p_value reason"),
    ):  # fmt: skip
        yield from _titled(title, _table(analysis, part, keys), detail=True)
    anomalies = _table(
        analysis, "anomalies", "model objective distance metric at slope residual residual_with"
    )
    threshold = f"{analysis.settings.threshold:.2f} residual standard deviations"
    none = f"No slope is further than {threshold} from a pooled line."
    yield from _titled("Anomalies", anomalies, none)


def _models(analysis: Analysis) -> b.Table:
    """Return a line a model: its kind, mean slope, and how slope goes with distance."""
    metric = main_metric(analysis)
    beside: dict[str, dict[str, Any]] = {}
    for row in analysis.models:
        own = [
            mean.slope
            for mean in analysis.mean_slopes
            if (mean.model, mean.metric) == (row.model, metric) and mean.condition in FIVE
        ]
        beside[row.model] = {"mean_slope": fmean(own) if own else None}
    for found in analysis.concordance:
        if found.metric == metric:
            beside[found.model][f"rho_{found.distance}"] = found.rho
    keys = "model family block layers runs objectives mean_slope rho_procrustes rho_cosine"
    return _table(analysis, "models", keys, beside=beside)
