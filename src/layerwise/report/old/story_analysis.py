"""What an analysis of many runs says, in words: the same on a page and on a terminal."""

from collections.abc import Iterator, Sequence

from layerwise.analysis.names import METRICS
from layerwise.analysis.record import (
    Analysis,
    Disagreement,
    RunSlope,
    Share,
    SignCount,
    SignTest,
)
from layerwise.report.old.columns import NumberStyle
from layerwise.report.old.text import counted, shown

__all__ = [
    "DISTANCE_NAMES",
    "METRIC_NAMES",
    "PART_NAMES",
    "absences",
    "analysis_headline",
    "analysis_reasons",
    "analysis_title",
    "condition_name",
    "fixed",
    "main_metric",
    "metrics_of",
    "p_text",
    "run_name",
    "seeds_of",
    "share_of",
    "sign_count",
    "with_ends",
]

METRIC_NAMES = {"procrustes": "Procrustes distance", "cka": "CKA change"}
DISTANCE_NAMES = {"procrustes": "gradient Procrustes", "cosine": "cosine"}
PART_NAMES = {
    "equal_step": "Equal-step against standard",
    "widths": "Widths",
    "concordance": "Objective distance and slope",
    "intervals": "Intervals over seeds",
}
"""What the parts that may be absent are called."""

_FIVE = "five-standard"
_NAMED = 4


def fixed(value: float | None, *, digits: int = 3) -> str:
    """`value` with as many decimals as all others beside it; an en dash where there is none."""
    return NumberStyle(0, digits).text(value)


def with_ends(value: float | None, low: float | None, high: float | None) -> str:
    """`value`, with both ends of its interval where it has one."""
    if low is None or high is None:
        return fixed(value)
    return f"{fixed(value)} ({fixed(low)} to {fixed(high)})"


def p_text(p_value: float | None) -> str:
    """A p-value with two significant digits, down to 0.0001."""
    if p_value is None:
        return "–"
    return f"{p_value:.2g}" if p_value >= 1e-4 else "< 0.0001"


def condition_name(conditions: str) -> str:
    """What slopes are counted under."""
    return "five standard" if conditions == _FIVE else shown(conditions, limit=40)


def run_name(run: RunSlope | Disagreement, *, seeded: bool) -> str:
    """A run by what tells it apart; its seed where there are several (`seeded`)."""
    parts = [run.model, run.objective, run.condition]
    parts += [run.placement] if run.placement != "all" else []
    parts += [f"seed {run.seed}"] if seeded else []
    return ", ".join(shown(part, limit=60) for part in parts)


def seeds_of(analysis: Analysis) -> frozenset[int]:
    """The seeds that any run has."""
    return frozenset(row.seed for row in analysis.slopes)


def metrics_of(analysis: Analysis) -> tuple[str, ...]:
    """The metrics that any run has, Procrustes first."""
    found = {row.metric for row in analysis.shares}
    return tuple(metric for metric in METRICS if metric in found)


def main_metric(analysis: Analysis) -> str:
    """The metric that headlines are about: Procrustes where there is one."""
    return metrics_of(analysis)[0]


def share_of(analysis: Analysis, metric: str, conditions: str = _FIVE) -> Share | None:
    """The signs of slopes by a metric and conditions."""
    found = (s for s in analysis.shares if (s.metric, s.conditions) == (metric, conditions))
    return next(found, None)


def analysis_title(analysis: Analysis) -> str:
    """What was analysed."""
    return shown(analysis.source, limit=160)


def analysis_headline(analysis: Analysis) -> str:
    """How many slopes are positive, in one sentence."""
    metric = main_metric(analysis)
    share = share_of(analysis, metric)
    if share is None:
        return "No run is under one of the five standard conditions."
    if share.zero == share.runs:
        return "Nothing changed by depth: every slope is 0."
    if share.positive == share.runs:
        return f"Change rises over depth in all {share.runs:,} standard runs."
    return f"Change rises over depth in {share.positive:,} of {share.runs:,} standard runs."


def analysis_reasons(analysis: Analysis) -> list[str]:
    """What the headline rests on, a sentence each."""
    return [
        *_exceptions(analysis),
        *_second_metric(analysis),
        *_equal_step(analysis),
        *_distances(analysis),
    ]


def _exceptions(analysis: Analysis) -> Iterator[str]:
    """Which slopes are negative by the metric of the headline."""
    metric = main_metric(analysis)
    found = [run for run in analysis.negative if run.metric == metric]
    if found:
        count = "" if len(found) == 1 else f"{len(found):,}: "
        yield f"It falls in {count}{_some(analysis, found)} ({METRIC_NAMES[metric]})."


def _some(analysis: Analysis, runs: Sequence[RunSlope]) -> str:
    """The first few runs by name, and how many more there are."""
    seeded = len(seeds_of(analysis)) > 1
    names = "; ".join(run_name(run, seeded=seeded) for run in runs[:_NAMED])
    more = len(runs) - _NAMED
    return f"{names}; and {more:,} more" if more > 0 else names


def _second_metric(analysis: Analysis) -> Iterator[str]:
    share = share_of(analysis, "cka")
    if main_metric(analysis) == "cka" or share is None:
        return
    differ = counted(len(analysis.disagreements), "run")
    yield (
        f"By CKA it rises in {share.positive:,} of {share.runs:,}; under any condition, {differ} "
        f"of {_runs(analysis):,} differ in sign between the two metrics."
    )


def _runs(analysis: Analysis) -> int:
    """How many runs there are."""
    return sum(row.runs for row in analysis.models)


def sign_count(
    analysis: Analysis, metric: str, *, block: str | None = None, family: str | None = None
) -> SignCount | None:
    """The signs under equal-step of one kind of block or family, or of all."""
    wanted = (metric, block, family)
    found = (c for c in analysis.sign_counts if (c.metric, c.block, c.family) == wanted)
    return next(found, None)


def _equal_step(analysis: Analysis) -> Iterator[str]:
    metric = main_metric(analysis)
    every = sign_count(analysis, metric)
    if every is None:
        return
    kinds = [c for c in analysis.sign_counts if c.metric == metric and c.block and not c.family]
    parts = ", ".join(f"{c.positive:,} of {c.pairs:,} {_block(c.block)}" for c in kinds)
    split = f": {parts}" if len(kinds) > 1 else ""
    yield f"Under equal-step {every.positive:,} of {every.pairs:,} slopes are positive{split}."


def _block(kind: str | None) -> str:
    """A kind of block in a sentence."""
    words = {"none": "with neither kind of block", "unknown": "with blocks of an unknown kind"}
    return words.get(str(kind), f"with {shown(kind, limit=40)} blocks")


def _distances(analysis: Analysis) -> Iterator[str]:
    tests = [test for test in analysis.sign_tests if test.metric == main_metric(analysis)]
    parts = [_sign_test(test) for test in tests]
    if parts:
        yield f"The farther objective has the steeper slope in {', and in '.join(parts)}."


def _sign_test(test: SignTest) -> str:
    models = f"{test.positive:,} of {counted(test.models, 'model')}"
    return f"{models} by {DISTANCE_NAMES[test.distance]} (sign test p = {p_text(test.p_value)})"


def absences(analysis: Analysis) -> list[tuple[str, str]]:
    """The parts that are not there by name, and why."""
    return [(PART_NAMES[part], reason) for part, reason in analysis.absent.items()]
