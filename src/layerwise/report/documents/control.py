"""A control: both conditions beside each other, and whether the shape is the model's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from layerwise.card.record import ModelInfo
from layerwise.columns import Column
from layerwise.profile.record import Control, Difference, Profile, Slope, StepSizes
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.documents.profile import (
    READOUTS,
    READOUTS_DIFFER,
    change_chart,
    depth_names,
    depth_spot,
    every_block,
    fitted,
    made_of_probes,
    readouts,
    slope_of,
)
from layerwise.report.numbers import counted, ends, number
from layerwise.report.words import shown

_NAMES = {"standard": "standard", "equal_step": "equal-step"}
"""Both conditions: the field of the record, and the name."""
_LOOK: Mapping[str, Any] = {"series": "condition", "names": [*_NAMES.values()]}

_RUNS = (
    Column("seed", "Seed", form="text"),
    *(Column(c, f"Slope, {name}", short=name, low=f"{c}_low", high=f"{c}_high", importance=90,
             band="95 % interval") for c, name in _NAMES.items()),
    Column("ratio", "Ratio", importance=60, meaning="Equal-step over standard."),
    Column("tau", "τ", short="tau", importance=30),
    *(Column(f"{c}_loss", f"Loss, {name}", short=f"loss, {name}", importance=20)
      for c, name in _NAMES.items()),
    Column("movement", "Movement", importance=25,
           meaning="How much further all depths together moved under equal-step."),
    Column("verdict", "Sign", form="text", importance=80,
           meaning="Of one seed: intrinsic where its slope under equal-step is above 0, as the "
           "paper reads it; of all: the verdict."),
)  # fmt: skip
_SLOPE = Column("slope", "Slope", low="low", high="high")
_STEP = Column("step", "Step", low="low", high="high")
_ASKED = Column("asked", "Asked")
_ABOUT = (
    "Blocks are counted from 0 at the input. Equal-step lets AdamW choose the direction, and gives "
    "every layer group a step of the same relative length."
)
_STRIPS = "the stronger the colour, the further the output moved, on one scale for both"
_BOTH = (
    "Filled points: the seven depths. Dashed: least-squares lines, on the fans of their 95 % "
    "intervals. Thin lines: single seeds."
)
_STEPS = (
    "Median over the steps, with the 5th and 95th percentile. Dashed: τ, which equal-step asks of "
    "every group. Hollow points: equal-step."
)


@dataclass(frozen=True)
class _ConditionRuns:
    """One of both conditions: a profile a seed; slope, steps and loss over all seeds."""

    key: str
    name: str
    profiles: Sequence[Profile]
    slope: Slope
    steps: Sequence[StepSizes]
    loss: float | None

    def means(self, readout: str = "") -> dict[int, float]:
        """Return the mean Procrustes distance of each block over the seeds, by its index."""
        found: dict[int, list[float]] = {}
        for profile in self.profiles:
            for block in every_block(profile.readouts[readout] if readout else profile):
                found.setdefault(block.index, []).append(block.procrustes)
        return {index: fmean(changes) for index, changes in found.items()}


def _condition(control: Control, key: str) -> _ConditionRuns:
    """Return a condition with each group's median of the seeds' medians, and outermost ends."""
    groups: dict[tuple[str, int | None], list[StepSizes]] = {}
    for run in control.runs:
        for group in getattr(run, f"{key}_steps"):
            groups.setdefault((group.group, group.row), []).append(group)
    steps = [
        StepSizes(name, row, seeds[0].asked, median(group.median for group in seeds),
                  min(group.low for group in seeds), max(group.high for group in seeds))
        for (name, row), seeds in groups.items()
    ]  # fmt: skip
    losses = (getattr(run, f"{key}_loss") for run in control.runs)
    known = [loss for loss in losses if loss is not None]
    profiles = [getattr(run, key) for run in control.runs] or [getattr(control, key)]
    loss = fmean(known) if known else None
    return _ConditionRuns(key, _NAMES[key], profiles, control.slopes[key], steps, loss)


def document(control: Control) -> b.Document:
    """Return the verdict, both profiles, every seed, and how far each layer group stepped."""
    standard, data, seeds = control.standard, control.data, counted(len(control.seeds), "seed")
    both = [_condition(control, key) for key in _NAMES]
    profiles = [profile for condition in both for profile in condition.profiles]
    never = dict.fromkeys(name for p in profiles for name in p.untrained_modules)
    notes = dict.fromkeys([*control.notes, *(note for p in profiles for note in p.notes)])
    models: dict[str, ModelInfo] = {"before": standard.before}
    for run in control.runs:
        models |= {f"standard {run.seed}": run.standard.after}
        models |= {f"equal-step {run.seed}": run.equal_step.after}
    about, trained_on = f"standard against equal-step · {seeds} · ", []
    about += f"{standard.probes.inputs:,} probes"
    if data is not None:
        source, objective = shown(data.source, limit=100), shown(data.objective)
        about = f"trained on {data.examples:,} examples of {source}, {objective} · {about}"
        trained_on = [("Data", data.source), ("Data SHA-256", data.sha256)]
    blocks: list[b.Block] = [
        b.Verdict(_headline(control), list(_reasons(control, both))),
        *parts.untrained(list(never)),
        b.Heading("Where it moved"),
        *_strips(both),
        _figures(control, both),
        b.Heading("Both profiles over depth", detail=True),
        b.Text(_ABOUT, quiet=True),
        _both(standard, both),
        _slope_chart(control, both),
        b.Heading("Seed by seed"),
        _runs(control, both),
        b.Heading("How far each layer group stepped", detail=True),
        _steps(control, both),
        *_readouts(control, both),
        b.Heading("Every block", detail=True),
        _every_block(standard, both),
        b.Heading("Before and after", detail=True),
        parts.model_facts(standard.before, title="Before"),
        *(parts.model_facts(c.profiles[0].after, title=f"After {c.name}") for c in both),
        *parts.noted(notes),
        *made_of_probes("How this control was made", control, standard, *trained_on, models=models),
    ]
    return b.Document("Control", parts.model_name(standard.before), about, blocks)


def _headline(control: Control) -> str:
    if control.verdict == "intrinsic":
        return (
            "Intrinsic: deeper blocks move more even where all take the same relative step. "
            "The shape is the model's."
        )
    if control.verdict == "artefact":
        return (
            "Gradient artefact: where all blocks take the same relative step, deeper ones no "
            "longer move more by as much. The shape is the optimizer's."
        )
    return "Undecided: these runs do not say whether the shape is the model's or the optimizer's."


def _reasons(control: Control, both: Sequence[_ConditionRuns]) -> Iterator[str]:
    yield shown(control.reason, limit=800)
    if control.sign is not None:
        positive, seeds = sum(r.verdict == "intrinsic" for r in control.runs), len(control.runs)
        sign = "positive" if control.sign == "intrinsic" else "not positive"
        yield (
            "Read by its sign alone, as arXiv 2604.17177 does, the slope under equal-step is "
            f"{sign}, {control.sign}; it is positive in {positive} of {counted(seeds, 'seed')}."
        )
    if all(condition.loss is not None for condition in both):
        losses = " and ".join(f"{number(c.loss)} under {c.name}" for c in both)
        yield f"Training loss ended at {losses}."


def _figures(control: Control, both: Sequence[_ConditionRuns]) -> b.Figures:
    seeds = shown(", ".join(map(str, control.seeds)), limit=24)
    return b.Figures([
        *((f"Slope, {c.name}", number(c.slope.slope), _interval(c.slope)) for c in both),
        *_left(control),
        ("Ratio", number(control.ratio), "equal-step over standard"),
        ("τ", number(control.tau), "relative step that equal-step asks of each group"),
        ("Seeds", seeds, "each with both conditions"),
        *((f"Loss, {c.name}", number(c.loss), "at the end") for c in both if c.loss is not None),
    ])  # fmt: skip


def _interval(figure: Slope | Difference) -> str:
    if figure.low is None or figure.high is None:
        return "no interval of fewer than three seeds"
    return f"{ends(figure.low, figure.high)}, 95 % interval over seeds"


def _left(control: Control) -> Iterator[tuple[str, str, str]]:
    """Yield what is left under equal-step, and how comparable the movement is, as figures."""
    left = control.difference
    if left is not None:
        yield f"Left beyond {left.share:.0%} of standard", number(left.slope), _interval(left)
    if control.movement is not None:
        yield "Movement", number(control.movement), "equal-step over standard, all depths together"


def _strips(both: Sequence[_ConditionRuns]) -> Iterator[b.Block]:
    """Yield each condition's mean change by block, on one scale."""
    means = [condition.means() for condition in both]
    most = max((change for found in means for change in found.values()), default=0.0)
    for n, (found, name) in enumerate(zip(means, _NAMES.values(), strict=True)):
        yield b.Strip(name, list(found), values=list(found.values()), most=most, about=_STRIPS,
                      series=n)  # fmt: skip


def _cell(key: str, slope: Slope, *, join: str = "_") -> dict[str, float | None]:
    """Return a slope with its interval, as the fields of a table's row."""
    return {key: slope.slope, f"{key}{join}low": slope.low, f"{key}{join}high": slope.high}


def _runs(control: Control, both: Sequence[_ConditionRuns]) -> b.Table:
    """Return every seed, and all of them together where there are several."""
    rows: list[dict[str, Any]] = [{**vars(run), "seed": str(run.seed)} for run in control.runs]
    for condition in both:
        for row, profile in zip(rows, condition.profiles, strict=False):
            row.update(_cell(condition.key, slope_of(profile)))
    if len(rows) != 1:
        rows.append({**vars(control), "seed": "all"})
        for c in both:
            rows[-1] |= {**_cell(c.key, c.slope), f"{c.key}_loss": c.loss}
    marked = frozenset({len(rows) - 1} if len(rows) > 1 else ())
    return b.Table("runs", _RUNS, rows, marked=marked, mark="all seeds")


def _every_block(standard: Profile, both: Sequence[_ConditionRuns]) -> b.Table:
    """Return each block's mean change and its step under both conditions."""
    names, spots = depth_names(standard), list(parts.spots(standard.before))
    first = next((row for row, (stack, _) in enumerate(spots) if stack == standard.stack), 0)
    columns = [Column("block", "Block", form="count"), Column("depth", "Depth", form="text")]
    values: dict[str, Mapping[int, float]] = {}
    for c in both:
        change = Column(f"{c.key}_change", f"Procrustes distance, {c.name}")
        step = Column(f"{c.key}_step", f"Relative step, {c.name}")
        values[change.key] = c.means()
        values[step.key] = {g.row - first: g.median for g in c.steps if g.row is not None}
        columns += [change, step]
    rows: list[dict[str, Any]] = [
        {"block": block.index, "depth": names.get(block.index, "")}
        | {key: found.get(block.index) for key, found in values.items()}
        for block in every_block(standard)
    ]
    return b.Table("blocks", columns, rows)


def _readouts(control: Control, both: Sequence[_ConditionRuns]) -> Iterator[b.Block]:
    """Yield both conditions under each readout: charts on one scale, and slopes seed by seed."""
    names = list(readouts(control.standard))
    yield b.Heading("Under each readout", detail=True)
    yield b.Text(READOUTS_DIFFER, quiet=True)
    means = {name: _mean_rows(both, name) for name in names}
    most = max((row["procrustes"] for rows in means.values() for row in rows), default=0.0)
    for name in names if len(names) > 1 else ():
        yield change_chart(f"readout-{name}", name, means[name], caption=READOUTS[name], most=most,
                           width="third", height=150, **_LOOK)  # fmt: skip
    seeds = [f"seed {run.seed}" for run in control.runs] or ["slope"]
    columns = [Column(s, s.capitalize(), low=f"{s} low", high=f"{s} high") for s in seeds]
    rows: list[dict[str, Any]] = []
    for readout in names:
        for condition in both:
            rows.append({"readout": f"{readout}, {condition.name}"})
            for seed, profile in zip(seeds, condition.profiles, strict=True):
                rows[-1] |= _cell(seed, slope_of(profile.readouts[readout]), join=" ")
    own = f"{control.standard.readout}, "
    marked = frozenset(n for n, row in enumerate(rows) if row["readout"].startswith(own))
    yield b.Table("readouts", [Column("readout", "Readout", form="text"), *columns], rows,
                  marked=marked, mark="the readout of this control",
                  caption="Slopes with their 95 % intervals.")  # fmt: skip


def _both(standard: Profile, both: Sequence[_ConditionRuns]) -> b.Chart:
    """Return each condition's mean over the seeds, the seeds behind it, and its fitted line."""
    lines, single = [], []
    for c in both:
        depths = [depth for profile in c.profiles for depth in profile.depths]
        fit = fitted(depths, c.slope, blocks=len(every_block(c.profiles[0])))
        lines += [{**spot, "condition": c.name} for spot in fit]
        single += [
            {"x": block.index, "procrustes": block.procrustes, "condition": c.name, "seed": str(n)}
            for n, profile in enumerate(c.profiles if len(c.profiles) > 1 else ())
            for block in every_block(profile)
        ]
    return change_chart(
        "both-profiles", f"Procrustes distance by block (readout {standard.readout})",
        _mean_rows(both), faint=single, join="seed", lines=lines, top=depth_names(standard),
        caption=_BOTH, width="wide", height=280, **_LOOK,
    )  # fmt: skip


def _mean_rows(both: Sequence[_ConditionRuns], readout: str = "") -> list[dict[str, Any]]:
    """Return the mean change of each block over the seeds, for each condition."""
    rows = []
    for condition in both:
        names = depth_names(condition.profiles[0])
        for index, change in condition.means(readout).items():
            spot = depth_spot(index, names)
            spot["head"] += f" · {condition.name}"
            rows.append({**spot, "procrustes": change, "condition": condition.name})
    return rows


def _slope_chart(control: Control, both: Sequence[_ConditionRuns]) -> b.Chart:
    """Return each condition's slope, over all seeds and seed by seed, on its interval."""
    rows: list[dict[str, Any]] = []
    seeds = [f"seed {run.seed}" for run in control.runs]
    for c in both:
        told = [("all seeds", c.slope)] if c.slope.low is not None else []
        told += zip(seeds, map(slope_of, c.profiles), strict=False)
        rows += [
            {**vars(slope), "label": f"{c.name}, {label}", "head": f"{c.name}, {label}"}
            | {"condition": c.name, "pooled": label == "all seeds"}
            for label, slope in told
        ]
    return b.Chart(
        "slopes", "Slope over relative depth, with its 95 % interval", "intervals", rows,
        b.Axis("slope", scale="zero"), b.Axis("label"), filled="pooled", low="low", high="high",
        tips=[_SLOPE], caption="Single seeds: intervals over probe inputs.",
        width="wide", **_LOOK,
    )  # fmt: skip


def _steps(control: Control, both: Sequence[_ConditionRuns]) -> b.Block:
    """Return the step of each layer group; one of 0, which a log axis has not, is left out."""
    places: list[dict[str, Any]] = list(parts.spots(control.standard.before).values())
    last = max((spot["x"] for spot in places), default=0)
    rest = {"x": last + 2, "index": None, "head": "all that is in no block"}
    rows = []
    for c in both:
        for g in c.steps:
            if g.median <= 0 or (g.row is not None and g.row >= len(places)):
                continue
            spot = rest if g.row is None else places[g.row]
            row = {**spot, "head": f"{spot['head']} · {c.name}", "condition": c.name}
            row |= {"step": g.median, "low": g.low if g.low > 0 else g.median, "high": g.high}
            rows.append({**row, "asked": g.asked, "standard": c.key == "standard"})
    if not rows:
        return b.Text("The runs did not record their step sizes.")
    taus = sorted({run.tau for run in control.runs} | {control.tau})
    return parts.by_block(
        "step-sizes", _STEP, rows, title="Relative step ||ΔW|| / ||W|| by layer group",
        scale="log", filled="standard", tips=[_STEP, _ASKED], caption=_STEPS, width="wide",
        rules=[b.Rule(tau, text="" if n else "τ") for n, tau in enumerate(taus)], height=240,
        **_LOOK,
    )  # fmt: skip
