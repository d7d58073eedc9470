"""What many runs have in common: slopes, equal steps, widths, objective distances."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from layerwise.analysis.columns import COLUMNS
from layerwise.analysis.names import DEPTHS, DISTANCES, FIVE, KEYS
from layerwise.analysis.record import (
    Analysis,
    RunSlope,
    Share,
    SignCount,
    SignTest,
)
from layerwise.report.blocks import Block, Document, Heading, Table, Text, Verdict
from layerwise.report.documents.analysis_charts import (
    DISTANCE_NAMES,
    METRIC_NAMES,
    drawings,
    main_metric,
    metrics_of,
)
from layerwise.report.documents.parts import chosen, facts, glossary, made, noted
from layerwise.report.numbers import NONE, counted
from layerwise.report.words import shown

__all__ = ["document", "p_text"]

_METRICS = {"procrustes": "Procrustes", "cka": "CKA"}
_PART_NAMES = {
    "equal_step": "Equal-step against standard",
    "widths": "Widths",
    "concordance": "Objective distance and slope",
    "intervals": "Intervals over seeds",
}
_FIVE = "five-standard"
_NAMED, _MOST = 4, 12


def document(analysis: Analysis) -> Document:
    """Return the signs of slopes, what stands out by run and model, charts and every table."""
    charts = drawings(analysis)
    blocks: list[Block] = [
        Verdict(_headline(analysis), [*_reasons(analysis)]),
        *_absent(analysis),
        *_slopes(analysis, charts),
        *_equal_step(analysis, charts),
        *_widths(analysis, charts),
        *_distances(analysis, charts),
        Heading("Models"),
        _models(analysis),
        *glossary(COLUMNS.values()),
        *noted(analysis.notes),
        *made(
            "How this analysis was made",
            analysis.provenance,
            [("Runs", analysis.source), ("SHA-256", analysis.sha256), *chosen(analysis.settings)],
        ),
    ]
    runs, seeds = sum(row.runs for row in analysis.models), len(_seeds(analysis))
    models = counted(len(analysis.models), "model")
    about = f"{counted(runs, 'run')} · {models} · {counted(seeds, 'seed')}"
    return Document("Analysis of many runs", shown(analysis.source, limit=160), about, blocks)


def _absent(analysis: Analysis) -> list[Block]:
    absent = [(_PART_NAMES[part], reason) for part, reason in analysis.absent.items()]
    return [Heading("Not in this analysis"), facts(absent)] if absent else []


# --- Words ------------------------------------------------------------------------------------


def p_text(p_value: float | None) -> str:
    """Return a p-value with two significant digits, down to 0.0001."""
    if p_value is None:
        return NONE
    return f"{p_value:.2g}" if p_value >= 1e-4 else "< 0.0001"


def _condition(conditions: str) -> str:
    return "five standard" if conditions == _FIVE else shown(conditions, limit=40)


def _seeds(analysis: Analysis) -> set[int]:
    return {row.seed for row in analysis.slopes}


def _share(analysis: Analysis, metric: str, conditions: str = _FIVE) -> Share | None:
    found = (s for s in analysis.shares if (s.metric, s.conditions) == (metric, conditions))
    return next(found, None)


def _headline(analysis: Analysis) -> str:
    """Return how many slopes are positive, in one sentence."""
    share = _share(analysis, main_metric(analysis))
    if share is None:
        return "No run is under one of the five standard conditions."
    if share.zero == share.runs:
        return "Nothing changed by depth: every slope is 0."
    if share.positive == share.runs:
        return f"Change rises over depth in all {share.runs:,} standard runs."
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
        runs, differ = sum(row.runs for row in analysis.models), len(analysis.disagreements)
        yield (
            f"By CKA it rises in {share.positive:,} of {share.runs:,}; under any condition, "
            f"{counted(differ, 'run')} of {runs:,} differ in sign between the two metrics."
        )
    counts = [count for count in analysis.sign_counts if count.metric == metric]
    every = next((count for count in counts if not count.block and not count.family), None)
    if every:
        kinds = [count for count in counts if count.block and not count.family]
        parts = ", ".join(map(_kind, kinds))
        split = f": {parts}" if len(kinds) > 1 else ""
        yield f"Under equal-step {every.positive:,} of {every.pairs:,} slopes are positive{split}."
    tests = [_sign_test(test) for test in analysis.sign_tests if test.metric == metric]
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


def _sign_test(test: SignTest) -> str:
    models = f"{test.positive:,} of {counted(test.models, 'model')}"
    return f"{models} by {DISTANCE_NAMES[test.distance]} (sign test p = {p_text(test.p_value)})"


# --- Tables -----------------------------------------------------------------------------------


def _table(
    analysis: Analysis,
    part: str,
    keys: str,
    *,
    beside: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> Table:
    """Return a part of the analysis under the columns `keys`, with what is `beside` its models."""
    frame = analysis.frame(part)
    plain = frame.astype(object).where(frame.notna(), None).to_dict("records")
    rows = [_told({str(key): value for key, value in row.items()}, part) for row in plain]
    rows = [{**row, **(beside or {}).get(row.get("model", ""), {})} for row in rows]
    columns = [COLUMNS[key] for key in keys.split()]
    return Table(part.replace("_", "-"), columns, rows, most=_MOST, **more)


def _told(row: dict[str, Any], part: str) -> dict[str, Any]:
    """Return a row with the names that people read."""
    if "metric" in row:
        row["metric"] = _METRICS[row["metric"]]
    if "distance" in row:
        row["distance"] = DISTANCE_NAMES[row["distance"]]
    if part == "shares":
        row["conditions"] = _condition(row["conditions"])
    if part == "sign_counts":
        row |= {key: row[key] or "all" for key in ("block", "family")}
    if part == "pooled":
        row["references"] = "with" if row["references"] else "without"
    return row


def _or_text(table: Table, text: str) -> Block:
    return table if table.rows else Text(text)


def _slopes(analysis: Analysis, charts: Mapping[str, Block]) -> Iterator[Block]:
    runs = " ".join(_run_keys(analysis))
    only = METRIC_NAMES[main_metric(analysis)] if len(metrics_of(analysis)) == 1 else ""
    nowhere = f"Runs have one metric, the {only}." if only else "Nowhere."
    yield Heading("Slopes")
    yield from (charts[name] for name in charts if name == "slopes")
    yield Heading("Signs", 3)
    yield _table(analysis, "shares", "conditions metric runs positive negative zero share")
    yield Heading("Negative under a standard condition", 3, detail=True)
    yield _or_text(_table(analysis, "negative", f"{runs} metric slope"), "None.")
    differ = _table(analysis, "disagreements", f"{runs} procrustes cka")
    yield Heading("Where the two metrics differ in sign", 3, detail=not differ.rows)
    yield _or_text(differ, nowhere)


def _equal_step(analysis: Analysis, charts: Mapping[str, Block]) -> Iterator[Block]:
    if not analysis.equal_step:
        return
    keys = "model objective metric block family seeds standard equal_step ratio reason"
    every = frozenset(
        n for n, c in enumerate(analysis.sign_counts) if c.block is None and c.family is None
    )
    yield Heading("Equal-step against standard", detail=True)
    yield from (charts[name] for name in charts if name.startswith("equal-step"))
    yield Heading("Signs under equal-step", 3)
    signs = "block family metric pairs positive negative zero"
    yield _table(analysis, "sign_counts", signs, marked=every, mark="all together")
    yield Heading("Every pair", 3)
    yield _table(analysis, "equal_step", keys)


def _widths(analysis: Analysis, charts: Mapping[str, Block]) -> Iterator[Block]:
    if not analysis.widths:
        return
    about = (
        "Each run's CKA-change profile divided by its sum, and the mean of those over the runs of "
        "a model."
    )
    yield from (Heading("Widths"), Text(about, quiet=True))
    yield from (charts[name] for name in charts if name == "widths")
    yield _table(analysis, "widths", f"model runs still {' '.join(DEPTHS)}")


def _distances(analysis: Analysis, charts: Mapping[str, Block]) -> Iterator[Block]:
    if not analysis.concordance:
        return
    about = (
        "Distances were measured before any training. Slopes are means over the standard "
        "conditions."
    )
    yield from (Heading("Objective distance and slope"), Text(about, quiet=True))
    yield from (charts[name] for name in charts if name.startswith("distance"))
    yield Heading("In each model", 3, detail=True)
    yield _table(analysis, "concordance", "model distance metric objectives rho reason")
    yield Heading("Signs over models", 3, detail=True)
    yield _table(analysis, "sign_tests", "distance metric models positive negative zero p_value")
    yield Heading("Over all models", 3, detail=True)
    yield _table(analysis, "pooled", "distance metric references points rho p_value reason")
    threshold = f"{analysis.settings.threshold:.2f} residual standard deviations"
    yield Heading("Anomalies", 3)
    yield _or_text(
        _table(analysis, "anomalies", "model objective distance metric at slope residual"),
        f"No slope is further than {threshold} from the pooled line.",
    )


def _models(analysis: Analysis) -> Table:
    """Return a line a model: its kind, mean slope, and how slope goes with distance."""
    metric = main_metric(analysis)
    slopes: dict[str, list[float]] = {}
    for row in analysis.mean_slopes:
        if row.metric == metric and row.condition in FIVE:
            slopes.setdefault(row.model, []).append(row.slope)
    rhos = {(r.model, r.distance): r.rho for r in analysis.concordance if r.metric == metric}
    keys = "model family block layers runs objectives mean_slope rho_procrustes rho_cosine"
    return _table(
        analysis,
        "models",
        keys,
        beside={
            row.model: {"mean_slope": fmean(slopes[row.model]) if row.model in slopes else None}
            | {f"rho_{name}": rhos.get((row.model, name)) for name in DISTANCES}
            for row in analysis.models
        },
    )
