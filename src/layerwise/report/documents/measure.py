"""Rival placements at an equal budget: the verdict, the leaderboard, every trial."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from layerwise.columns import Column
from layerwise.measure.columns import ARMS, IMPROVEMENT
from layerwise.measure.leaderboard import FEWEST
from layerwise.measure.record import ArmResult, Measure
from layerwise.report.blocks import (
    Axis,
    Block,
    Chart,
    Document,
    Heading,
    Table,
    Text,
    Verdict,
)
from layerwise.report.documents.parts import ending, glossary, model_name
from layerwise.report.numbers import counted, interval, number, quantity
from layerwise.report.words import ranges, shown

__all__ = ["arm_blocks", "document"]

_KINDS = {
    "recommended": "the card's advice",
    "policy": "policy",
    "incumbent": "other tool",
    "random": "random",
    "everywhere": "all blocks",
}
_HEADLINES = {
    "better": "The recommended placement is better than a random one.",
    "no difference": "No difference between the recommended placement and a random one.",
    "worse": "The recommended placement is worse than a random one.",
}
_EQUAL = (
    "Every arm but “all” has adapters of the same size, and all make the same steps on the same "
    "batches."
)
_LADDER = (
    "The improvement with each rate, on text and a seed ({}) that score nobody; the chosen rate "
    "has a dot."
)


def document(measure: Measure) -> Document:
    """Return the verdict, every arm, the best first, and how it was measured."""
    data, budget = measure.data, measure.budget
    seeds = "1 seed" if len(measure.seeds) == 1 else f"{len(measure.seeds)} paired seeds"
    gained = "Fall of loss" if measure.quality == "loss" else f"Gain of {shown(measure.quality)}"
    arms = [arm for arm in measure.arms if arm.outcome]
    rows = [_row(arm) for arm in arms]
    recommended = frozenset(n for n, arm in enumerate(arms) if arm.kind == "recommended")
    columns = [replace(c, title=gained) if c is IMPROVEMENT else c for c in ARMS]
    size = f"{counted(budget.layers, 'block')} at rank {budget.rank}"
    blocks: list[Block] = [
        Verdict(_headline(measure), [*_reasons(measure)]),
        Text(f"{size}: {budget.adapter_parameters:,} parameters, {budget.steps:,} steps, {seeds}"),
        Heading("Leaderboard", detail=True),
        Text(_EQUAL, quiet=True),
        *_charts(measure, rows, gained),
        Heading("Every arm"),
        Table("arms", columns, rows, recommended, "the card's advice", bar="improvement"),
        *glossary(columns),
        *_trials(measure),
        *ending(
            measure,
            "How this was measured",
            ("Validation", f"{measure.validation:,} examples, none of them trained on"),
            ("Before", f"{number(measure.before)} {measure.quality} of the untouched model"),
            ("Sizes of adapters", f"within {budget.tolerance:.0%} of the budget"),
            ("Tokens", f"{budget.tokens[0]:,} in the first seed"),
            ("Seeds", ", ".join(map(str, measure.seeds))),
            ("Card", f"{measure.card.examples:,} examples of {measure.card.source}"),
        ),
    ]
    about = f"{data.examples:,} examples, {shown(data.objective)}"
    subtitle = f"on {shown(data.source, limit=100)} ({about}) · {seeds}"
    return Document("Rival placements", model_name(measure.model), subtitle, blocks)


# --- The verdict ------------------------------------------------------------------------------


def _headline(measure: Measure) -> str:
    if measure.against_random is None:
        return "The recommended placement was not held against random ones."
    if len(measure.seeds) < FEWEST:
        return "Too few seeds to tell the recommended placement from a random one."
    return _HEADLINES[measure.verdict]


def _reasons(measure: Measure) -> Iterator[str]:
    """Yield the figures behind the verdict, and what they do not cover."""
    yield measure.reason
    for arm in measure.arms:
        if arm.failed:
            yield f"{arm.name} is left out: {shown(arm.failed, limit=200)}."
    rates = sorted(measure.ladder)
    if len(rates) == 1:
        yield f"All arms had one learning rate, {rates[0]:g}, which may suit some better."
    else:
        ran = [arm for arm in measure.arms if arm.outcome and arm.same_as is None]
        for rate, end, beyond in (
            (rates[-1], "largest", "larger"),
            (rates[0], "smallest", "smaller"),
        ):
            count = sum(arm.learning_rate == rate for arm in ran)
            told = f"The ladder's {end} rate, {rate:g}, suited {count} of {len(ran)} arms best"
            if count:
                yield f"{told}: {beyond} ones might put them in another order."
    if len(measure.seeds) < 2:
        yield f"One seed has no interval; {FEWEST} or more are needed to tell two arms apart."
        return
    yield (
        f"Intervals (95 %) are over {len(measure.seeds)} paired seeds, not over the "
        f"{measure.validation:,} validation examples, and each arm is judged alone."
    )


# --- Arms -------------------------------------------------------------------------------------


def _row(arm: ArmResult) -> dict[str, Any]:
    """Return what the table and the charts say of an arm."""
    found, against = arm.outcome, arm.against
    row = asdict(arm) | (asdict(found) if found else {})
    row |= {"name": f"{arm.name} (as {arm.same_as})" if arm.same_as else arm.name}
    row |= {"kind": _KINDS[arm.kind], "blocks": arm_blocks(arm), "head": shown(arm.name)}
    if found:
        row["tip"] = interval(found.improvement, found.low, found.high)
        row["step_tip"] = quantity(found.seconds_per_step, "s")
    if against:
        ends = {"difference_low": against.low, "difference_high": against.high}
        row |= {"difference": against.difference, "verdict": against.verdict, **ends}
    return row


def arm_blocks(arm: ArmResult) -> str:
    """Return an arm's blocks, with the names of their stacks where there are several."""
    stacks: dict[str, list[int]] = {}
    for block in arm.blocks:
        stacks.setdefault(block.stack, []).append(block.index)
    several = len(stacks) > 1
    names = (f"{shown(stack, limit=30)} " if several else "" for stack in stacks)
    return "; ".join(n + ranges(found) for n, found in zip(names, stacks.values(), strict=True))


def _charts(measure: Measure, rows: list[dict[str, Any]], gained: str) -> Iterator[Block]:
    tips = {"kind": "What it is", "tip": gained, "step_tip": "Step", "blocks": "Blocks"}
    arms = [arm for arm in measure.arms if arm.outcome]
    single = [
        {"name": row["name"], "kind": row["kind"], "head": f"{row['head']}, seed {trial.seed}"}
        | {"improvement": trial.improvement, "tip": number(trial.improvement)}
        for row, arm in zip(rows, arms, strict=True)
        for trial in arm.trials
    ]
    several = len(measure.seeds) > 1
    look: Mapping[str, Any] = {"series": "kind", "names": list(_KINDS.values()), "tips": tips}
    yield Chart(
        "leaderboard",
        gained,
        "intervals",
        rows,
        Axis("improvement", scale="zero"),
        Axis("name"),
        low="low" if several else "",
        high="high" if several else "",
        faint=single if several else (),
        caption="Points: means over the seeds, with 95 % intervals. Ticks: single seeds.",
        width="wide",
        **look,
    )
    yield Chart(
        "time",
        f"{gained} by step time",
        "scatter",
        [row for row in rows if row["same_as"] is None],  # Copies would lie on the arm itself.
        Axis("seconds_per_step", "seconds a step", scale="zero"),
        Axis("improvement", scale="zero"),
        caption="Up and to the left is better.",
        width="wide",
        height=220,
        **look,
    )


def _trials(measure: Measure) -> Iterator[Block]:
    """Yield each arm's improvement seed by seed, and rate by rate."""
    own = [arm for arm in measure.arms if arm.same_as is None]
    seeds = [Column(f"seed_{seed}", f"Seed {seed}") for seed in measure.seeds]
    rates = [Column(f"{rate:g}", f"{rate:g}", form="text") for rate in measure.ladder]
    trials = [
        {"name": arm.name, **{f"seed_{t.seed}": t.improvement for t in arm.trials}}
        for arm in own
        if arm.outcome
    ]
    rungs = [{"name": arm.name, **_rungs(arm, measure)} for arm in own if arm.ladder]
    yield from (Heading("Seed by seed", detail=True), Table("trials", [ARMS[0], *seeds], trials))
    yield Heading("How learning rates were chosen", detail=True)
    yield Text(_LADDER.format(measure.ladder_seed), quiet=True)
    yield Table("ladder", [ARMS[0], *rates], rungs)


def _rungs(arm: ArmResult, measure: Measure) -> dict[str, str]:
    tried = {rung.learning_rate: rung.improvement for rung in arm.ladder}
    return {
        f"{rate:g}": "diverged"
        if tried.get(rate) is None
        else number(tried[rate]) + (" ●" if rate == arm.learning_rate else "")
        for rate in measure.ladder
    }
