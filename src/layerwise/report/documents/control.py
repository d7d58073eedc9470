"""A control: both conditions beside each other, and whether the shape is the model's."""

from collections.abc import Iterator, Mapping
from statistics import fmean, median
from typing import Any

from layerwise.card.record import ModelInfo
from layerwise.columns import Column
from layerwise.profile.record import Control, Profile, ReadoutProfile, Slope, StepSizes
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.documents.profile import (
    READOUTS,
    READOUTS_DIFFER,
    change_chart,
    depth_names,
    depth_spot,
    direction,
    every_block,
    fitted,
    made_of_probes,
    readouts,
)
from layerwise.report.numbers import counted, ends, number
from layerwise.report.words import shown

_CONDITIONS = {"standard": "standard", "equal_step": "equal-step"}
"""Both conditions: the field of the record, and the name."""
_LOOK: Mapping[str, Any] = {"series": "condition", "names": [*_CONDITIONS.values()]}

_RUNS = (
    Column("seed", "Seed", form="text"),
    *(Column(c, f"Slope, {name}", short=name, low=f"{c}_low", high=f"{c}_high", importance=90,
             band="95 % interval") for c, name in _CONDITIONS.items()),
    Column("ratio", "Ratio", importance=60, meaning="Equal-step over standard."),
    Column("tau", "τ", short="tau", importance=30),
    *(Column(f"{c}_loss", f"Loss, {name}", short=f"loss, {name}", importance=20)
      for c, name in _CONDITIONS.items()),
    Column("verdict", "Verdict", form="text", importance=80),
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


def document(control: Control) -> b.Document:
    """Return the verdict, both profiles, every seed, and how far each layer group stepped."""
    standard, data = control.standard, control.data
    profiles = [p for c in _CONDITIONS for p in _profiles(control, c)]
    never = dict.fromkeys(name for p in profiles for name in p.untrained_modules)
    notes = dict.fromkeys([*control.notes, *(note for p in profiles for note in p.notes)])
    models: dict[str, ModelInfo] = {"before": standard.before}
    for run in control.runs:
        models |= {f"standard {run.seed}": run.standard.after}
        models |= {f"equal-step {run.seed}": run.equal_step.after}
    blocks: list[b.Block] = [
        b.Verdict(_headline(control), list(_reasons(control))),
        *parts.untrained(list(never)),
        b.Heading("Where it moved"),
        *_strips(control),
        _figures(control),
        b.Heading("Both profiles over depth", detail=True),
        b.Text(_ABOUT, quiet=True),
        _both(control),
        _slope_chart(control),
        b.Heading("Seed by seed"),
        _runs(control),
        b.Heading("How far each layer group stepped", detail=True),
        _steps(control),
        *_readouts(control),
        b.Heading("Every block", detail=True),
        _every_block(control),
        b.Heading("Before and after", detail=True),
        parts.model_facts(standard.before, title="Before"),
        *(parts.model_facts(_profiles(control, c)[0].after, title=f"After {name}")
          for c, name in _CONDITIONS.items()),
        *parts.noted(notes),
        *made_of_probes(
            "How this control was made",
            control,
            standard,
            *([("Data", data.source), ("Data SHA-256", data.sha256)] if data else []),
            models=models,
        ),
    ]  # fmt: skip
    return b.Document("Control", parts.model_name(standard.before), _subtitle(control), blocks)


def _subtitle(control: Control) -> str:
    probes, data = control.standard.probes, control.data
    seeds = counted(len(control.seeds), "seed")
    told = f"standard against equal-step · {seeds} · {probes.inputs:,} probes"
    if data is None:
        return told
    source = shown(data.source, limit=100)
    return f"trained on {data.examples:,} examples of {source}, {shown(data.objective)} · {told}"


def _profiles(control: Control, condition: str) -> list[Profile]:
    """Return the profiles of a condition, one a seed."""
    return [getattr(run, condition) for run in control.runs] or [getattr(control, condition)]


def _means(control: Control, condition: str, readout: str | None = None) -> dict[int, float]:
    """Return the mean Procrustes distance of each block over the seeds, by its index."""
    found: dict[int, list[float]] = {}
    for profile in _profiles(control, condition):
        for block in every_block(profile.readouts[readout] if readout else profile):
            found.setdefault(block.index, []).append(block.procrustes)
    return {index: fmean(changes) for index, changes in found.items()}


def _loss(control: Control, condition: str) -> float | None:
    """Return the mean over the seeds of the loss that a condition reached, where it is known."""
    losses = [getattr(run, f"{condition}_loss") for run in control.runs]
    known = [loss for loss in losses if loss is not None]
    return fmean(known) if known else None


def _slope_of(found: Profile | ReadoutProfile) -> Slope:
    return Slope(found.slope, found.slope_low, found.slope_high)


def _cell(key: str, slope: Slope, *, join: str = "_") -> dict[str, float]:
    """Return a slope with its interval, as the fields of a table's row."""
    return {key: slope.slope, f"{key}{join}low": slope.low, f"{key}{join}high": slope.high}


# --- Words ------------------------------------------------------------------------------------


def _headline(control: Control) -> str:
    if control.verdict == "intrinsic":
        return (
            "Intrinsic: deeper blocks move more even where all take the same relative step. "
            "The shape is the model's."
        )
    slope = control.slopes["standard"]
    if direction(slope.low, slope.high) != "rises":
        return (
            "Artefact by the rule, but there is no rise to explain: under neither condition do "
            "deeper blocks move more."
        )
    return (
        "Gradient artefact: where all blocks take the same relative step, deeper ones no longer "
        "move more. The shape is the optimizer's."
    )


def _reasons(control: Control) -> Iterator[str]:
    yield shown(control.reason, limit=800)
    alone, seeds = sum(run.verdict == control.verdict for run in control.runs), len(control.runs)
    if seeds < 2:
        yield "One seed: the interval is over probe inputs, not over runs."
    elif alone == seeds:
        yield f"Each of the {alone} seeds alone gives the same verdict."
    else:
        yield f"{alone} of {seeds} seeds alone give the same verdict."
    standard, equal = (_loss(control, condition) for condition in _CONDITIONS)
    if standard is not None and equal is not None:
        told = f"{number(standard)} under standard and {number(equal)} under equal-step"
        yield f"Training loss ended at {told}."


def _figures(control: Control) -> b.Figures:
    slopes = ((name, control.slopes[c]) for c, name in _CONDITIONS.items())
    losses = ((name, _loss(control, c)) for c, name in _CONDITIONS.items())
    seeds = shown(", ".join(map(str, control.seeds)), limit=24)
    return b.Figures([
        *((f"Slope, {name}", number(s.slope), f"{ends(s.low, s.high)}, 95 % interval")
          for name, s in slopes),
        ("Ratio", number(control.ratio), "equal-step over standard"),
        ("τ", number(control.tau), "relative step that equal-step asks of each group"),
        ("Seeds", seeds, "each with both conditions"),
        *((f"Loss, {name}", number(loss), "at the end")
          for name, loss in losses if loss is not None),
    ])  # fmt: skip


def _strips(control: Control) -> Iterator[b.Block]:
    """Yield each condition's mean change by block, on one scale."""
    means = {name: _means(control, condition) for condition, name in _CONDITIONS.items()}
    most = max((change for found in means.values() for change in found.values()), default=0.0)
    for series, (name, found) in enumerate(means.items()):
        values = list(found.values())
        yield b.Strip(name, list(found), values=values, most=most, about=_STRIPS, series=series)


# --- Tables -----------------------------------------------------------------------------------


def _runs(control: Control) -> b.Table:
    """Return every seed, and all of them together where there are several."""
    rows: list[dict[str, Any]] = []
    for run in control.runs:
        row = {**vars(run), "seed": str(run.seed)}
        for condition in _CONDITIONS:
            row |= _cell(condition, _slope_of(getattr(run, condition)))
        rows.append(row)
    if len(rows) != 1:
        row = {**vars(control), "seed": "all"}
        for condition, slope in control.slopes.items():
            row |= {**_cell(condition, slope), f"{condition}_loss": _loss(control, condition)}
        rows.append(row)
    marked = frozenset({len(rows) - 1} if len(rows) > 1 else ())
    return b.Table("runs", _RUNS, rows, marked=marked, mark="all seeds")


def _every_block(control: Control) -> b.Table:
    """Return each block's mean change and its step under both conditions."""
    standard = control.standard
    names, stacks = depth_names(standard), [stack.name for stack in standard.before.stacks]
    at = stacks.index(standard.stack) if standard.stack in stacks else 0
    first = sum(stack.blocks for stack in standard.before.stacks[:at])
    columns = [Column("block", "Block", form="count"), Column("depth", "Depth", form="text")]
    values: dict[str, Mapping[int, float]] = {}
    for condition, name in _CONDITIONS.items():
        change, step, groups = (
            f"{condition}_change",
            f"{condition}_step",
            _step_groups(control, condition),
        )
        values[change] = _means(control, condition)
        values[step] = {g.row - first: g.median for g in groups if g.row is not None}
        columns += [
            Column(change, f"Procrustes distance, {name}"),
            Column(step, f"Relative step, {name}"),
        ]
    rows: list[dict[str, Any]] = [
        {"block": block.index, "depth": names.get(block.index, "")}
        | {key: found.get(block.index) for key, found in values.items()}
        for block in every_block(standard)
    ]
    return b.Table("blocks", columns, rows)


def _readouts(control: Control) -> Iterator[b.Block]:
    """Yield both conditions under each readout: charts on one scale, and slopes seed by seed."""
    names = list(readouts(control.standard))
    yield b.Heading("Under each readout", detail=True)
    yield b.Text(READOUTS_DIFFER, quiet=True)
    means = {name: _mean_rows(control, name) for name in names}
    most = max((row["procrustes"] for rows in means.values() for row in rows), default=0.0)
    for name in names if len(names) > 1 else ():
        yield change_chart(f"readout-{name}", name, means[name], caption=READOUTS[name], most=most,
                           width="third", height=150, **_LOOK)  # fmt: skip
    seeds = [f"seed {run.seed}" for run in control.runs] or ["slope"]
    columns = [Column(s, s.capitalize(), low=f"{s} low", high=f"{s} high") for s in seeds]
    rows, marked = list[dict[str, Any]](), set[int]()
    for readout in names:
        for condition, name in _CONDITIONS.items():
            row: dict[str, Any] = {"readout": f"{readout}, {name}"}
            for seed, profile in zip(seeds, _profiles(control, condition), strict=True):
                row |= _cell(seed, _slope_of(profile.readouts[readout]), join=" ")
            marked |= {len(rows)} if readout == control.standard.readout else set()
            rows.append(row)
    yield b.Table("readouts", [Column("readout", "Readout", form="text"), *columns], rows,
                marked=frozenset(marked), mark="the readout of this control",
                caption="Slopes with their 95 % intervals.")  # fmt: skip


# --- Charts -----------------------------------------------------------------------------------


def _both(control: Control) -> b.Chart:
    """Return each condition's mean over the seeds, the seeds behind it, and its fitted line."""
    lines, single = [], []
    for condition, name in _CONDITIONS.items():
        profiles, slope = _profiles(control, condition), control.slopes[condition]
        depths = [depth for profile in profiles for depth in profile.depths]
        fit = fitted(depths, (slope.slope, slope.low, slope.high),
                     blocks=len(every_block(profiles[0])))  # fmt: skip
        lines += [{**spot, "condition": name} for spot in fit]
        single += [
            {"x": block.index, "procrustes": block.procrustes, "condition": name, "seed": str(n)}
            for n, profile in enumerate(profiles if len(profiles) > 1 else ())
            for block in every_block(profile)
        ]
    return change_chart(
        "both-profiles", f"Procrustes distance by block (readout {control.standard.readout})",
        _mean_rows(control), faint=single, join="seed", lines=lines,
        top=depth_names(control.standard), caption=_BOTH, width="wide", height=280, **_LOOK,
    )  # fmt: skip


def _mean_rows(control: Control, readout: str | None = None) -> list[dict[str, Any]]:
    """Return the mean change of each block over the seeds, for each condition."""
    rows = []
    for condition, name in _CONDITIONS.items():
        names = depth_names(_profiles(control, condition)[0])
        for index, change in _means(control, condition, readout).items():
            spot = depth_spot(index, names)
            spot["head"] += f" · {name}"
            rows.append({**spot, "procrustes": change, "condition": name})
    return rows


def _slope_chart(control: Control) -> b.Chart:
    """Return each condition's slope, over all seeds and seed by seed, on its interval."""
    seeds = control.runs if len(control.runs) > 1 else ()
    rows: list[dict[str, Any]] = []
    all_seeds = f"seed {control.runs[0].seed}" if len(control.runs) == 1 else "all seeds"
    for condition, name in _CONDITIONS.items():
        told = {all_seeds: control.slopes[condition]}
        told |= {f"seed {run.seed}": _slope_of(getattr(run, condition)) for run in seeds}
        rows += [
            {**vars(slope), "label": f"{name}, {label}", "head": f"{name}, {label}"}
            | {"condition": name, "pooled": label == all_seeds}
            for label, slope in told.items()
        ]
    return b.Chart(
        "slopes", "Slope over relative depth, with its 95 % interval", "intervals", rows,
        b.Axis("slope", scale="zero"), b.Axis("label"), filled="pooled", low="low", high="high",
        tips=[_SLOPE], width="wide", **_LOOK,
        caption="Intrinsic where the interval under equal-step lies above 0.",
    )  # fmt: skip


def _step_groups(control: Control, condition: str) -> list[StepSizes]:
    """Return each layer group's step: the median of the seeds' medians, their outermost ends."""
    found: dict[tuple[str, int | None], list[StepSizes]] = {}
    for run in control.runs:
        for group in getattr(run, f"{condition}_steps"):
            found.setdefault((group.group, group.row), []).append(group)
    return [
        StepSizes(name, row, seeds[0].asked, median(group.median for group in seeds),
                  min(group.low for group in seeds), max(group.high for group in seeds))
        for (name, row), seeds in found.items()
    ]  # fmt: skip


def _steps(control: Control) -> b.Block:
    """Return the step of each layer group; one of 0, which a log axis has not, is left out."""
    places: list[dict[str, Any]] = list(parts.spots(control.standard.before).values())
    last = max((spot["x"] for spot in places), default=0)
    rest = {"x": last + 2, "index": None, "head": "all that is in no block"}
    rows = []
    for condition, name in _CONDITIONS.items():
        for g in _step_groups(control, condition):
            if g.median <= 0 or (g.row is not None and g.row >= len(places)):
                continue
            spot = rest if g.row is None else places[g.row]
            row = {**spot, "head": f"{spot['head']} · {name}", "step": g.median, "condition": name}
            row |= {"low": g.low if g.low > 0 else g.median, "high": g.high}
            row |= {"standard": condition == "standard"}
            rows.append(row if g.asked is None else {**row, "asked": g.asked})
    if not rows:
        return b.Text("The runs did not record their step sizes.")
    taus = sorted({run.tau for run in control.runs} | {control.tau})
    return parts.by_block(
        "step-sizes", _STEP, rows, title="Relative step ||ΔW|| / ||W|| by layer group",
        scale="log", filled="standard", tips=[_STEP, _ASKED], caption=_STEPS, width="wide",
        rules=[b.Rule(tau, text="" if n else "τ") for n, tau in enumerate(taus)], height=240,
        **_LOOK,
    )  # fmt: skip
