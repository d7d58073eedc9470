"""A control: both conditions beside each other, and whether the shape is the model's."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from layerwise.card.record import ModelInfo
from layerwise.columns import Column
from layerwise.profile.record import Control, Profile, StepSizes
from layerwise.report.blocks import (
    Axis,
    Block,
    Chart,
    Document,
    Figure,
    Figures,
    Heading,
    Rule,
    Strip,
    Table,
    Text,
    Verdict,
)
from layerwise.report.documents.parts import (
    made,
    model_facts,
    model_name,
    noted,
    spots,
    untrained,
)
from layerwise.report.documents.profile import (
    READOUTS,
    change_chart,
    depth_names,
    direction,
    every_block,
    fitted,
    probe_facts,
    readouts,
)
from layerwise.report.numbers import counted, ends, interval, number
from layerwise.report.words import shown

__all__ = ["document"]

_CONDITIONS = {"standard": "standard", "equal_step": "equal-step"}
"""Both conditions: the field of the record, and the name."""
_NAMES = tuple(_CONDITIONS.values())
_ENDS = ("low", "high")

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
_MOVED = {
    "both-profiles": "Filled points: the seven depths. Dashed: least-squares lines, on the fans of "
    "their 95 % intervals. Thin lines: single seeds.",
    "slopes": "Intrinsic where the interval under equal-step lies above 0.",
    "step-sizes": "Median over the steps, with the 5th and 95th percentile. Dashed: τ, which "
    "equal-step asks of every group. Hollow points: equal-step.",
}


def document(control: Control) -> Document:
    """Return the verdict, both profiles, every seed, and how far each layer group stepped."""
    standard = control.standard
    profiles = [p for c in _CONDITIONS for p in _profiles(control, c)]
    never = dict.fromkeys(name for p in profiles for name in p.untrained_modules)
    notes = dict.fromkeys([*control.notes, *(note for p in profiles for note in p.notes)])
    blocks: list[Block] = [
        Verdict(_headline(control), list(_reasons(control))),
        *untrained(list(never)),
        Heading("Where it moved"),
        *_strips(control),
        _figures(control),
        Heading("Both profiles over depth", detail=True),
        Text("Blocks are counted from 0 at the input. Equal-step lets AdamW choose the direction, "
             "and gives every layer group a step of the same relative length.", quiet=True),
        _both(control),
        _slope_chart(control),
        Heading("Seed by seed"),
        _runs(control),
        Heading("How far each layer group stepped", detail=True),
        *_steps(control),
        *_readouts(control),
        Heading("Every block", detail=True),
        _every_block(control),
        Heading("Before and after", detail=True),
        model_facts(standard.before, title="Before"),
        *(model_facts(_profiles(control, c)[0].after, title=f"After {name}")
          for c, name in _CONDITIONS.items()),
        *noted(notes),
        *_made(control),
    ]  # fmt: skip
    return Document("Control", model_name(standard.before), _subtitle(control), blocks)


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


def _figures(control: Control) -> Figures:
    slopes = [
        (f"Slope, {name}", number(s.slope), f"{ends(s.low, s.high)}, 95 % interval")
        for name, s in ((n, control.slopes[c]) for c, n in _CONDITIONS.items())
    ]
    losses = [(f"Loss, {name}", _loss(control, c)) for c, name in _CONDITIONS.items()]
    told = [
        *slopes,
        ("Ratio", number(control.ratio), "equal-step over standard"),
        ("τ", number(control.tau), "relative step that equal-step asks of each group"),
        ("Seeds", shown(", ".join(map(str, control.seeds)), limit=24), "each with both conditions"),
        *((label, number(loss), "at the end") for label, loss in losses if loss is not None),
    ]
    return Figures([Figure(*figure) for figure in told])


def _strips(control: Control) -> Iterator[Block]:
    """Yield each condition's mean change by block, on one scale."""
    means = {name: _means(control, condition) for condition, name in _CONDITIONS.items()}
    most = max((change for found in means.values() for change in found.values()), default=0.0)
    for series, (name, found) in enumerate(means.items()):
        about = "the stronger the colour, the further the output moved, on one scale for both"
        values = list(found.values())
        yield Strip(name, list(found), values=values, most=most, about=about, series=series)


# --- Tables -----------------------------------------------------------------------------------


def _runs(control: Control) -> Table:
    """Return every seed, and all of them together where there are several."""
    rows: list[dict[str, Any]] = []
    for run in control.runs:
        row = {**vars(run), "seed": str(run.seed)}
        for condition in _CONDITIONS:
            profile: Profile = getattr(run, condition)
            row |= {condition: profile.slope}
            row |= {f"{condition}_{end}": getattr(profile, f"slope_{end}") for end in _ENDS}
        rows.append(row)
    if len(rows) != 1:
        row = {**vars(control), "seed": "all"}
        for condition, slope in control.slopes.items():
            row |= {condition: slope.slope, f"{condition}_loss": _loss(control, condition)}
            row |= {f"{condition}_low": slope.low, f"{condition}_high": slope.high}
        rows.append(row)
    marked = frozenset({len(rows) - 1} if len(rows) > 1 else ())
    return Table("runs", _RUNS, rows, marked=marked, mark="all seeds")


def _every_block(control: Control) -> Table:
    """Return each block's mean change and its step under both conditions."""
    standard = control.standard
    names, stacks = depth_names(standard), [stack.name for stack in standard.before.stacks]
    at = stacks.index(standard.stack) if standard.stack in stacks else 0
    first = sum(stack.blocks for stack in standard.before.stacks[:at])
    columns = [Column("block", "Block", form="count"), Column("depth", "Depth", form="text")]
    values: dict[str, Mapping[int, float]] = {}
    for condition, name in _CONDITIONS.items():
        groups = _step_groups(control, condition)
        values[f"{condition}_change"] = _means(control, condition)
        values[f"{condition}_step"] = {g.row - first: g.median for g in groups if g.row is not None}
        columns += [
            Column(f"{condition}_change", f"Procrustes distance, {name}"),
            Column(f"{condition}_step", f"Relative step, {name}"),
        ]
    rows: list[dict[str, Any]] = [
        {"block": b.index, "depth": names.get(b.index, "")}
        | {key: found.get(b.index) for key, found in values.items()}
        for b in every_block(standard)
    ]
    return Table("blocks", columns, rows)


def _readouts(control: Control) -> Iterator[Block]:
    """Yield both conditions under each readout: charts on one scale, and slopes seed by seed."""
    names = list(readouts(control.standard))
    yield Heading("Under each readout", detail=True)
    about = "Readouts differ in what stands for a block's output. All are on one scale."
    yield Text(about, quiet=True)
    means = {name: _mean_rows(control, name) for name in names}
    most = max((row["procrustes"] for rows in means.values() for row in rows), default=0.0)
    for name in names if len(names) > 1 else ():
        yield _change(f"readout-{name}", name, means[name], caption=READOUTS[name], most=most,
                      width="third", height=150)  # fmt: skip
    seeds = [f"seed {run.seed}" for run in control.runs] or ["slope"]
    columns = [Column("readout", "Readout", form="text"), *(
        Column(s, s.capitalize(), low=f"{s} low", high=f"{s} high") for s in seeds
    )]  # fmt: skip
    rows = []
    for readout in names:
        for condition, name in _CONDITIONS.items():
            row: dict[str, Any] = {"readout": f"{readout}, {name}"}
            for seed, profile in zip(seeds, _profiles(control, condition), strict=True):
                found = profile.readouts[readout]
                row |= {seed: found.slope}
                row |= {f"{seed} low": found.slope_low, f"{seed} high": found.slope_high}
            rows.append(row)
    marked = frozenset(
        n for n, row in enumerate(rows)
        if row["readout"].partition(",")[0] == control.standard.readout
    )  # fmt: skip
    yield Table("readouts", columns, rows, marked=marked, mark="the readout of this control",
                caption="Slopes with their 95 % intervals.")  # fmt: skip


def _made(control: Control) -> Iterator[Block]:
    standard, data = control.standard, control.data
    pairs: list[tuple[str, object]] = [
        *([("Data", data.source), ("Data SHA-256", data.sha256)] if data else []),
        *probe_facts(standard.probes),
        ("Readout", standard.readout),
    ]
    sides: dict[str, ModelInfo] = {"before": standard.before}
    for run in control.runs:
        sides |= {f"standard {run.seed}": run.standard.after}
        sides |= {f"equal-step {run.seed}": run.equal_step.after}
    files = {f"{s}: {name}": h for s, model in sides.items() for name, h in model.files.items()}
    return made("How this control was made", control.provenance, pairs, files=files)


# --- Charts -----------------------------------------------------------------------------------


def _change(name: str, title: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> Chart:
    return change_chart(name, title, rows, series="condition", names=_NAMES, **more)


def _both(control: Control) -> Chart:
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
    return _change(
        "both-profiles", f"Procrustes distance by block (readout {control.standard.readout})",
        _mean_rows(control), faint=single, join="seed", lines=lines,
        top=depth_names(control.standard), caption=_MOVED["both-profiles"], width="wide",
        height=280,
    )  # fmt: skip


def _mean_rows(control: Control, readout: str | None = None) -> list[dict[str, Any]]:
    """Return the mean change of each block over the seeds, for each condition."""
    rows = []
    for condition, name in _CONDITIONS.items():
        names = depth_names(_profiles(control, condition)[0])
        for index, change in _means(control, condition, readout).items():
            depth = names.get(index, "")
            where = f"block {index}" + (f" · depth {depth}" if depth else "")
            spot = {"x": index, "index": index, "head": f"{where} · {name}", "marked": bool(depth)}
            told = {"procrustes": change, "procrustes_tip": number(change), "condition": name}
            rows.append(spot | told)
    return rows


def _slope_chart(control: Control) -> Chart:
    """Return each condition's slope, over all seeds and seed by seed, on its interval."""
    seeds, rows = len(control.runs), []
    for condition, name in _CONDITIONS.items():
        slope = control.slopes[condition]
        label = f"seed {control.runs[0].seed}" if seeds == 1 else "all seeds"
        told = [(label, slope.slope, slope.low, slope.high)]
        for run in control.runs if seeds > 1 else ():
            p: Profile = getattr(run, condition)
            told.append((f"seed {run.seed}", p.slope, p.slope_low, p.slope_high))
        rows += [
            {"label": f"{name}, {label}", "head": f"{name}, {label}", "condition": name}
            | {"slope": mean, "low": low, "high": high, "tip": interval(mean, low, high)}
            | {"pooled": n == 0}
            for n, (label, mean, low, high) in enumerate(told)
        ]
    return Chart(
        "slopes", "Slope over relative depth, with its 95 % interval", "intervals", rows,
        Axis("slope", scale="zero"), Axis("label"), series="condition", names=_NAMES,
        filled="pooled", low="low", high="high", tips={"tip": "Slope"}, width="wide",
        caption=_MOVED["slopes"],
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


def _steps(control: Control) -> Iterator[Block]:
    """Yield the step of each layer group; one of 0, which a log axis has not, is left out."""
    places = list(spots(control.standard.before).values())
    end = max((spot["x"] for spot in places), default=0) + 2
    rest = {"x": end, "index": None, "head": "all that is in no block"}
    rows = []
    for condition, name in _CONDITIONS.items():
        for g in _step_groups(control, condition):
            known = g.row is None or g.row < len(places)
            if not known or g.median <= 0:
                continue
            spot = rest if g.row is None else places[g.row]
            asked = "" if g.asked is None else f", asked {number(g.asked)}"
            rows.append(
                {**spot, "head": f"{spot['head']} · {name}", "step": g.median, "condition": name}
                | {"low": g.low if g.low > 0 else g.median, "high": g.high}
                | {"tip": interval(g.median, g.low, g.high) + asked}
                | {"standard": condition == "standard"}
            )
    if not rows:
        yield Text("The runs did not record their step sizes.")
        return
    taus = sorted({run.tau for run in control.runs} | {control.tau})
    yield Chart(
        "step-sizes", "Relative step ||ΔW|| / ||W|| by layer group", "blocks", rows, Axis("x"),
        Axis("step", scale="log"), series="condition", names=_NAMES, filled="standard", low="low",
        high="high", tips={"tip": "Step"}, caption=_MOVED["step-sizes"], width="wide", height=240,
        rules=[Rule(tau, text="" if n else "τ") for n, tau in enumerate(taus)],
    )  # fmt: skip
