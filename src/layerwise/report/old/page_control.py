"""A control's page."""

from typing import Any

from layerwise.profile.record import Control, ControlRun, Profile
from layerwise.report.old.charts_control import control_charts
from layerwise.report.old.drawing import PAGE
from layerwise.report.old.page import (
    Grid,
    Made,
    Numbers,
    figures,
    heat,
    model_pairs,
    number_grid,
    probe_facts,
    render,
)
from layerwise.report.old.page_profile import READOUTS, heads
from layerwise.report.old.story import (
    CONDITIONS,
    condition_profiles,
    control_headline,
    control_reasons,
    every_block,
    every_note,
    every_untrained,
    mean_changes,
    mean_loss,
    number,
    readouts,
    slope_text,
    span,
    step_groups,
    with_interval,
)
from layerwise.report.old.text import counted, model_name, shown

__all__ = ["control_html"]

_CAPTIONS = {
    "both-profiles": (
        "Filled points: the seven depths. Dashed: least-squares lines, on the fans of their 95 % "
        "intervals. Thin lines: single seeds."
    ),
    "slopes": "Intrinsic where the interval under equal-step lies above 0.",
    "step-sizes": (
        "Median over the steps, with the 5th and 95th percentile. Dashed: τ, which equal-step asks "
        "of every group. Hollow points: equal-step."
    ),
    **{f"readout-{name}": told for name, told in READOUTS.items()},
}


def control_html(control: Control) -> bytes:
    """The report of `control` as one UTF-8 HTML file: verdict, charts, runs, table, source.

    It is closed in as every page of `layerwise.report.old.page`: offline, escaped, nothing foreign.
    """
    specs = control_charts(control, theme=PAGE)
    drawn = figures(specs, {name: ("", _CAPTIONS[name]) for name in specs})
    context = {
        "kind": "Control: standard against equal-step",
        "title": shown(model_name(control.standard.before), limit=160),
        "lede": _lede(control),
        "headline": control_headline(control),
        "reasons": control_reasons(control),
        "stack": shown(control.standard.stack),
        "strips": _strips(control),
        "untrained": [shown(name, limit=120) for name in every_untrained(control)],
        "facts": _facts(control),
        "main_figures": [drawn["both-profiles"], drawn["slopes"]],
        "step_figures": [drawn["step-sizes"]] if "step-sizes" in drawn else [],
        "readout_figures": [f for name, f in drawn.items() if name.startswith("readout-")],
        "slopes": _slopes(control),
        "runs": _runs(control),
        "blocks": _blocks(control),
        "models": {
            "Before": model_pairs(control.standard.before),
            **{
                f"After {name}": model_pairs(condition_profiles(control, condition)[0].after)
                for condition, name in CONDITIONS.items()
            },
        },
        "made": _made(control),
    }
    return render("control.html.j2", specs, context)


def _lede(control: Control) -> str:
    probes, data = control.standard.probes, control.data
    told = f"{counted(len(control.seeds), 'seed')} · {probes.inputs:,} probes"
    if data is None:
        return told
    trained = f"{data.examples:,} examples of {shown(data.source)}, {shown(data.objective)}"
    return f"trained on {trained} · {told}"


def _facts(control: Control) -> list[tuple[str, str, str]]:
    """Key figures: label, number, what it says."""
    slopes = [
        (f"Slope, {name}", *span(found.slope, found.low, found.high))
        for name, found in ((n, control.slopes[c]) for c, n in CONDITIONS.items())
    ]
    losses = [(f"Loss, {name}", mean_loss(control, c)) for c, name in CONDITIONS.items()]
    seeds = ", ".join(map(str, control.seeds))
    return [
        *slopes,
        ("Ratio", number(control.ratio), "equal-step over standard"),
        ("τ", number(control.tau), "relative step that equal-step asks of each group"),
        ("Seeds", shown(seeds, limit=24), "each with both conditions"),
        *((label, number(loss), "at the end") for label, loss in losses if loss is not None),
    ]


def _strips(control: Control) -> list[tuple[str, int, Any]]:
    """Each condition's mean change by block: name, series, cells; one scale for both."""
    means = {c: mean_changes(condition_profiles(control, c)) for c in CONDITIONS}
    most = max((change for found in means.values() for change in found.values()), default=0.0)
    return [
        (name, number_of_series, heat(means[condition], most=most))
        for number_of_series, (condition, name) in enumerate(CONDITIONS.items(), start=1)
    ]


def _slopes(control: Control) -> Grid:
    """Slopes of both conditions under each readout, a column a seed."""
    rows = [
        (f"{readout}, {name}", readout == control.standard.readout, [slope_text(p) for p in found])
        for readout in readouts(control.standard)
        for condition, name in CONDITIONS.items()
        for found in [[p.readouts[readout] for p in condition_profiles(control, condition)]]
    ]
    titles = [f"Seed {run.seed}" for run in control.runs] or ["Slope"]
    columns = [(title, "slope, 95 % interval") for title in titles]
    return Grid("readouts", "Readout", columns, rows)


def _runs(control: Control) -> Grid:
    """Every seed, and all of them together where there are several."""
    titles = ("Slope, standard", "Slope, equal-step", "Ratio", "τ", "Loss, standard")
    columns = [(title, "") for title in (*titles, "Loss, equal-step", "Verdict")]
    rows = [(str(run.seed), False, _run(run)) for run in control.runs]
    if len(rows) != 1:
        rows.append(("all", True, _all_runs(control)))
    return Grid("runs", "Seed", columns, rows)


def _all_runs(control: Control) -> list[str]:
    found = [control.slopes[condition] for condition in CONDITIONS]
    slopes = [with_interval(s.slope, s.low, s.high) for s in found]
    losses = [number(mean_loss(control, condition)) for condition in CONDITIONS]
    return [*slopes, number(control.ratio), number(control.tau), *losses, control.verdict]


def _run(run: ControlRun) -> list[str]:
    slopes = [slope_text(profile) for profile in (run.standard, run.equal_step)]
    losses = [number(run.standard_loss), number(run.equal_step_loss)]
    return [*slopes, number(run.ratio), number(run.tau), *losses, run.verdict]


def _blocks(control: Control) -> Grid:
    """Every block: its mean change and its step under both conditions."""
    blocks = every_block(control.standard)
    columns = []
    for condition, name in CONDITIONS.items():
        means = mean_changes(condition_profiles(control, condition))
        columns.append(Numbers("Procrustes distance", name, [means.get(b.index) for b in blocks]))
    for condition, name in CONDITIONS.items():
        steps = _steps_of_stack(control, condition)
        if steps:
            columns.append(Numbers("Relative step", name, [steps.get(b.index) for b in blocks]))
    return number_grid("blocks", "Block", heads(control.standard), columns)


def _steps_of_stack(control: Control, condition: str) -> dict[int, float]:
    """The relative step of each block of the stack that was followed, by its index."""
    first = _first_row(control.standard)
    groups = step_groups(control, condition)
    return {g.row - first: g.median for g in groups if g.row is not None and g.row >= first}


def _first_row(profile: Profile) -> int:
    """How many blocks lie in the stacks before the one that was followed."""
    names = [stack.name for stack in profile.before.stacks]
    before = names.index(profile.stack) if profile.stack in names else 0
    return sum(stack.blocks for stack in profile.before.stacks[:before])


def _made(control: Control) -> Made:
    standard, data = control.standard, control.data
    facts: list[tuple[str, object]] = [
        *([("Data", data.source), ("Data SHA-256", data.sha256)] if data else []),
        *probe_facts(standard.probes),
        ("Readout", standard.readout),
    ]
    sides = {"before": standard.before}
    for run in control.runs:
        sides |= {f"standard {run.seed}": run.standard.after}
        sides |= {f"equal-step {run.seed}": run.equal_step.after}
    hashes = {f"{s}: {name}": h for s, model in sides.items() for name, h in model.files.items()}
    notes = every_note(control)
    heading = "How this control was made"
    return Made.by(control.provenance, heading=heading, notes=notes, facts=facts, hashes=hashes)
