"""The charts of an analysis: slopes, equal steps, widths, slope against distance."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from layerwise.analysis.names import DEPTHS, DISTANCES, FIVE, METRICS
from layerwise.analysis.record import Analysis
from layerwise.columns import Column
from layerwise.report.blocks import Axis, Chart
from layerwise.report.numbers import percent
from layerwise.report.words import shown

METRIC_NAMES = {"procrustes": "Procrustes distance", "cka": "CKA change"}
DISTANCE_NAMES = {"procrustes": "gradient Procrustes", "cosine": "cosine"}

MOST_ROWS = 120
"""Lines of a chart; of more, the first are drawn, and the page says so."""

_KINDS = {
    "sequential": "sequential blocks",
    "parallel": "parallel blocks",
    "none": "neither kind of block",
    "unknown": "unknown blocks",
}
_SLOPE = Column("slope", "Slope", digits=3, low="low", high="high")
_EQUAL_STEP = (
    Column("standard", "standard", digits=3),
    Column("equal_step", "equal-step", digits=3, low="low", high="high"),
    Column("ratio", "ratio", digits=3, low="ratio_low", high="ratio_high"),
)
_POINT = (
    Column("at", "distance", digits=3),
    Column("slope", "slope", digits=3),
    Column("off", "residual", form="text"),
)
_OVER_DEPTH = "Slope over relative depth"


def drawings(analysis: Analysis) -> dict[str, Chart]:
    """Return the charts by name, of the parts that the analysis has."""
    charts = [
        *_slopes(analysis),
        *(chart for metric in metrics_of(analysis) for chart in _equal_step(analysis, metric)),
        *_widths(analysis),
        *(chart for distance in DISTANCES for chart in _distance(analysis, distance)),
    ]
    return {chart.name: chart for chart in charts}


def metrics_of(analysis: Analysis) -> list[str]:
    """Return the metrics that any run has, Procrustes first."""
    found = {row.metric for row in analysis.shares}
    return [metric for metric in METRICS if metric in found]


def main_metric(analysis: Analysis) -> str:
    """Return the metric that headlines are about: Procrustes where there is one."""
    return metrics_of(analysis)[0]


def _labels(keys: Iterable[Sequence[str]], *, limit: int = 44) -> dict[tuple[str, ...], str]:
    """Return a short label for each of the first `keys`, no two the same."""
    labels: dict[tuple[str, ...], str] = {}
    for key in list(dict.fromkeys(map(tuple, keys)))[:MOST_ROWS]:
        label = " · ".join(shown(part, limit=limit // len(key)) for part in key)
        taken = label in labels.values()
        labels[key] = f"{label} ({len(labels) + 1})" if taken else label
    return labels


def _cut(lines: int) -> str:
    return f" The first {MOST_ROWS} of {lines:,} are drawn." if lines > MOST_ROWS else ""


def _slopes(analysis: Analysis) -> Iterator[Chart]:
    """Yield each model's and objective's mean over the five conditions, and each of them."""
    found = [row for row in analysis.mean_slopes if row.condition in FIVE]
    labels = _labels((row.model, row.objective) for row in found)
    means: dict[tuple[str, str, str], list[float]] = {}
    single: list[dict[str, Any]] = []
    for row in found:
        if label := labels.get((row.model, row.objective)):
            means.setdefault((row.model, row.metric, label), []).append(row.slope)
            about = {"label": label, "head": f"{label} · {shown(row.condition)}"}
            single.append({**vars(row), **about, "metric": METRIC_NAMES[row.metric]})
    rows = [
        {"label": label, "model": model, "metric": METRIC_NAMES[metric], "slope": fmean(own)}
        | {"head": f"{label} · mean of {len(own)} conditions"}
        for (model, metric, label), own in means.items()
    ]
    pairs = len({(row.model, row.objective) for row in found})
    caption = "Points: the mean over the standard conditions. Ticks: each condition."
    if rows:
        yield Chart(
            "slopes", "Slope by model and objective", "intervals", rows,
            Axis("slope", _OVER_DEPTH, scale="zero"), Axis("label"), series="metric",
            names=[METRIC_NAMES[metric] for metric in metrics_of(analysis)], faint=single,
            join="model", tips=[_SLOPE], caption=caption + _cut(pairs), width="wide",
        )  # fmt: skip


def _kind(block: str) -> str:
    return _KINDS.get(block, _KINDS["unknown"])


def _kinds(analysis: Analysis) -> list[str]:
    """Return the kinds of blocks that any model has: one kind, one colour, on every chart."""
    found = {_kind(row.block) for row in analysis.models}
    return [name for name in _KINDS.values() if name in found]


def _equal_step(analysis: Analysis, metric: str) -> Iterator[Chart]:
    """Yield, for each model and objective, the slope under standard and under equal-step."""
    found = [row for row in analysis.equal_step if row.metric == metric]
    found.sort(key=lambda row: (list(_KINDS.values()).index(_kind(row.block)), row.model))
    labels = _labels((row.model, row.objective) for row in found)
    rows = [
        {**vars(row), "label": label, "block": _kind(row.block)}
        | {"head": f"{label} · {_kind(row.block)}"}
        for row in found
        if (label := labels.get((row.model, row.objective)))
    ]
    seeded = any(row["low"] is not None for row in rows)
    about = "Hollow: standard. Filled: equal-step. Bands: intervals over seeds, if any."
    if rows:
        yield Chart(
            f"equal-step-{metric}",
            f"Equal-step against standard: slope of the {METRIC_NAMES[metric]}", "intervals", rows,
            Axis("equal_step", _OVER_DEPTH, scale="zero"), Axis("label"), series="block",
            names=_kinds(analysis), join="model", tips=_EQUAL_STEP,
            other="standard" if any(row["standard"] is not None for row in rows) else "",
            low="low" if seeded else "", high="high" if seeded else "",
            caption=about + _cut(len(found)), width="wide",
        )  # fmt: skip


def _widths(analysis: Analysis) -> Iterator[Chart]:
    """Yield each model's share of the change at each of the seven depths, the darker the more."""
    found = {row.model: row.shares for row in analysis.widths if row.shares}
    labels = _labels((model,) for model in found)
    rows = [
        {"label": label, "depth": depth, "share": share, "text": f"{100 * share:.1f}"}
        | {"head": f"{label} · depth {depth}"}
        for (model,), label in labels.items()
        for name, share in zip(DEPTHS, found[model], strict=True)
        for depth in [percent(float(name[1:]))]
    ]
    if rows:
        yield Chart(
            "widths", "Width: share of the CKA change at each depth, in %", "heat", rows,
            Axis("depth", "Relative depth"), Axis("label"), series="share", label="text",
            tips=[Column("share", "Share", form="percent", digits=1)], width="wide",
            caption=f"The seven depths of a model make 100 %.{_cut(len(found))}",
        )  # fmt: skip


def _distance(analysis: Analysis, distance: str) -> Iterator[Chart]:
    """Yield slope against distance, a faint line a model, the pooled line, anomalies named."""
    names = (distance, main_metric(analysis))
    points = [p for p in analysis.points if (p.distance, p.metric) == names]
    line = next((f for f in analysis.fits if (f.distance, f.metric) == names), None)
    if not points or line is None:
        return
    blocks = {row.model: _kind(row.block) for row in analysis.models}
    labels = _labels(((p.model, p.objective) for p in points), limit=60)
    rows: list[dict[str, Any]] = [
        {**vars(p), "block": blocks[p.model], "head": label, "label": label if p.anomaly else ""}
        | {"off": "–" if p.residual is None else f"{p.residual:+.2f} sd"}
        for p in points
        if (label := labels.get((p.model, p.objective)))
    ]
    fitted = []
    if line.intercept is not None and line.gradient is not None:
        ends = [end(row["at"] for row in rows) for end in (min, max)]
        fitted = [{"at": at, "slope": line.intercept + line.gradient * at} for at in ends]
    yield Chart(
        f"distance-{distance}", f"Slope against {DISTANCE_NAMES[distance]} distance", "scatter",
        rows, Axis("at", f"Distance of the objective, {DISTANCE_NAMES[distance]}", scale="zero"),
        Axis("slope", f"Slope of the {METRIC_NAMES[line.metric]}", scale="zero"),
        series="block", names=_kinds(analysis), filled="anomaly", label="label", join="model",
        lines=fitted, tips=_POINT, width="wide", height=320,
        caption="Faint: the objectives of one model. Dashed: the line of all points. Filled and "
        "named: anomalies.",
    )  # fmt: skip
