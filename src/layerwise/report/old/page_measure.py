"""A measurement's page."""

from layerwise.measure.record import ArmResult, Measure
from layerwise.report.old.charts_measure import measure_charts
from layerwise.report.old.drawing import PAGE
from layerwise.report.old.page import Grid, Made, figures, model_pairs, render
from layerwise.report.old.story import number
from layerwise.report.old.story_measure import (
    KINDS,
    against_text,
    arm_blocks,
    gained,
    improvement_text,
    ladder_text,
    measure_headline,
    measure_reasons,
    memory_text,
    place_text,
    rate_text,
    seeds_text,
    share_text,
    step_text,
    told_arms,
)
from layerwise.report.old.text import model_name, shown

__all__ = ["measure_html"]

_CAPTIONS = {
    "leaderboard": "Points: means over the seeds. Ticks: single seeds. The best on top.",
    "time": "Up and to the left is better.",
}


def measure_html(measure: Measure) -> bytes:
    """The report of `measure` as one UTF-8 HTML file: verdict, leaderboard, trials, source.

    It is closed in as every page of `layerwise.report.old.page`: offline, escaped, nothing foreign.
    """
    specs = measure_charts(measure, theme=PAGE)
    drawn = figures(specs, {name: ("", _CAPTIONS[name]) for name in specs})
    context = {
        "kind": "Measured placements",
        "title": shown(model_name(measure.model), limit=160),
        "lede": _lede(measure),
        "headline": measure_headline(measure),
        "reasons": measure_reasons(measure),
        "facts": _facts(measure),
        "leaderboard_figures": [drawn["leaderboard"]],
        "time_figures": [drawn["time"]],
        "leaderboard": _leaderboard(measure),
        "trials": _trials(measure),
        "ladder": _ladder(measure),
        "ladder_seed": measure.ladder_seed,
        "models": {"Model": model_pairs(measure.model)},
        "made": _made(measure),
    }
    return render("measure.html.j2", specs, context)


def _lede(measure: Measure) -> str:
    data = measure.data
    trained = f"trained on {data.examples:,} examples of {shown(data.source)}"
    return f"{trained}, {shown(data.objective)} · {seeds_text(measure)}"


def _facts(measure: Measure) -> list[tuple[str, str, str]]:
    """Key figures: label, number, what it says."""
    budget = measure.budget
    recommended = measure.arm(measure.recommended)
    outcome = recommended.outcome
    equal = sum(arm.place is not None for arm in measure.arms)
    return [
        ("Place", place_text(recommended), f"of {equal} at equal budget"),
        ("Kept", share_text(outcome.kept if outcome else None), "of the improvement of all blocks"),
        ("Step", share_text(outcome.step_ratio if outcome else None), "of their time"),
        ("Before", number(measure.before), f"{shown(measure.quality)} of the untouched model"),
        ("Adapters", f"{budget.adapter_parameters:,}", f"parameters, ±{budget.tolerance:.0%}"),
        ("Steps", f"{budget.steps:,}", f"{budget.tokens[0]:,} tokens in the first seed"),
    ]


def _leaderboard(measure: Measure) -> Grid:
    titles = (
        ("What it is", ""),
        ("Place", ""),
        ("Improvement", gained(measure)),
        ("Beside the recommended", "difference"),
        ("Kept", "of all blocks"),
        ("Step", ""),
        ("Of all blocks", "step time"),
        ("Peak memory", ""),
        ("Rate", ""),
        ("Parameters", ""),
        ("Blocks", ""),
    )
    rows = [(_name(a), a.kind == "recommended", _arm(a)) for a in told_arms(measure)]
    return Grid("leaderboard", "Arm", titles, rows)


def _name(arm: ArmResult) -> str:
    return shown(f"{arm.name} (as {arm.same_as})" if arm.same_as else arm.name)


def _arm(arm: ArmResult) -> list[str]:
    found = arm.outcome
    return [
        KINDS[arm.kind],
        place_text(arm),
        improvement_text(arm),
        against_text(arm.against),
        share_text(found.kept if found else None),
        step_text(arm),
        share_text(found.step_ratio if found else None),
        memory_text(arm),
        rate_text(arm.learning_rate),
        f"{arm.adapter_parameters:,}",
        arm_blocks(arm),
    ]


def _trials(measure: Measure) -> Grid:
    """Each arm's improvement, seed by seed."""
    columns = [(f"Seed {seed}", gained(measure)) for seed in measure.seeds]
    rows = [
        (shown(arm.name), arm.kind == "recommended", [number(t.improvement) for t in arm.trials])
        for arm in told_arms(measure)
        if arm.same_as is None
    ]
    return Grid("trials", "Arm", columns, rows)


def _ladder(measure: Measure) -> Grid:
    columns = [(f"{rate:g}", gained(measure)) for rate in measure.ladder]
    rows = [
        (shown(arm.name), arm.kind == "recommended", ladder_text(arm, measure.ladder))
        for arm in measure.arms
        if arm.ladder and arm.same_as is None
    ]
    return Grid("ladder", "Arm", columns, rows)


def _made(measure: Measure) -> Made:
    data, settings = measure.data, measure.settings
    batch = f"{settings.batch_size} x {settings.accumulation}, {settings.max_length} tokens at most"
    facts: list[tuple[str, object]] = [
        ("Data", data.source),
        ("Data SHA-256", data.sha256),
        ("Validation", f"{measure.validation:,} examples, none of them trained on"),
        ("Batch", batch),
        ("Seeds", ", ".join(map(str, measure.seeds))),
        ("Card", f"{measure.card.examples:,} examples of {measure.card.source}"),
    ]
    return Made.by(
        measure.provenance,
        heading="How this was measured",
        notes=measure.notes,
        facts=facts,
        hashes=measure.model.files,
    )
