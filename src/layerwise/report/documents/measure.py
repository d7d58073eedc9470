"""Rival placements at an equal budget: the verdict, the leaderboard, every trial."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from layerwise.columns import Column
from layerwise.intervals import FEWEST
from layerwise.measure.columns import ARMS, IMPROVEMENT
from layerwise.measure.leaderboard import headline
from layerwise.measure.record import ArmResult, Measure
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.numbers import counted, number
from layerwise.report.words import ranges, shown

_KINDS = {
    "recommended": "the card's advice",
    "policy": "policy",
    "incumbent": "other tool",
    "random": "random",
    "everywhere": "all blocks",
}
_EQUAL = (
    "Every arm but “all” has adapters of the same size, and all make the same steps on the same "
    "batches."
)
_LADDER = (
    "The improvement with each rate, on text and a seed ({}) that score nobody; the chosen rate "
    "has a dot."
)


def document(measure: Measure) -> b.Document:
    """Return the verdict, every arm, the best first, and how it was measured."""
    data, budget = measure.data, measure.budget
    seeds = "1 seed" if len(measure.seeds) == 1 else f"{len(measure.seeds)} paired seeds"
    arms = [arm for arm in measure.arms if arm.outcome]
    rows = [_row(arm) for arm in arms]
    recommended = frozenset(n for n, arm in enumerate(arms) if arm.kind == "recommended")
    improved = replace(IMPROVEMENT, title=parts.gained(measure.quality))
    columns = [improved if column is IMPROVEMENT else column for column in ARMS]
    size = f"{counted(budget.layers, 'block')} at rank {budget.rank}"
    mark = _KINDS["recommended"]
    table = b.Table("arms", columns, rows, recommended, mark, bar="improvement")
    blocks: list[b.Block] = [
        b.Verdict(headline(measure), [*_reasons(measure)]),
        b.Text(
            f"{size}: {budget.adapter_parameters:,} parameters, {budget.steps:,} steps, {seeds}"
        ),
        b.Heading("Leaderboard", detail=True),
        b.Text(_EQUAL, quiet=True),
        *_charts(measure, arms, rows, improved),
        b.Heading("Every arm"),
        table,
        *parts.glossary(table),
        *_trials(measure),
        *parts.ending(
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
    held, choosing = measure.validation, measure.ladder_examples
    read = data.examples + data.dropped + held + choosing
    told = f"trained on {data.examples:,}, rates chosen on {choosing:,}, scored on {held:,}"
    about = parts.on_data(data, f"{told} of {counted(read, 'row')}; {shown(data.objective)}")
    return b.Document(
        "Rival placements", parts.model_name(measure.model), f"{about} · {seeds}", blocks
    )


def _reasons(measure: Measure) -> Iterator[str]:
    """Yield the figures behind the verdict, and what they do not cover."""
    yield measure.reason
    for arm in measure.arms:
        if arm.failed:
            yield f"{arm.name} is left out: {shown(arm.failed, limit=200)}."
    low, high = min(measure.ladder), max(measure.ladder)
    if low == high:
        yield f"All arms had one learning rate, {low:g}, which may suit some better."
    else:
        ran = [arm for arm in measure.arms if arm.outcome and arm.same_as is None]
        for rate, end, beyond in ((high, "largest", "larger"), (low, "smallest", "smaller")):
            count = sum(arm.learning_rate == rate for arm in ran)
            told = f"The ladder's {end} rate, {rate:g}, suited {count} of {len(ran)} arms best"
            if count:
                yield f"{told}: {beyond} ones might put them in another order."
    if len(measure.seeds) < FEWEST:
        few = "One seed has" if len(measure.seeds) == 1 else "Two seeds have"
        yield f"{few} no interval; {FEWEST} or more are needed to tell two arms apart."
        return
    yield (
        f"Intervals (95 %) are over {len(measure.seeds)} paired seeds, not over the "
        f"{measure.validation:,} validation examples, and each arm is judged alone."
    )


def _row(arm: ArmResult) -> dict[str, Any]:
    """Return what the table and the charts say of an arm."""
    found, against = arm.outcome, arm.against
    row = asdict(arm) | (asdict(found) if found else {})
    row |= {"name": f"{arm.name} (as {arm.same_as})" if arm.same_as else arm.name}
    row |= {"kind": _KINDS[arm.kind], "blocks": arm_blocks(arm), "head": shown(arm.name)}
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


def _charts(
    measure: Measure, arms: Sequence[ArmResult], rows: list[dict[str, Any]], improved: Column
) -> Iterator[b.Block]:
    single = [
        {"name": row["name"], "kind": row["kind"], "head": f"{row['head']}, seed {trial.seed}"}
        | {"improvement": trial.improvement}
        for row, arm in zip(rows, arms, strict=True)
        for trial in arm.trials
    ]
    told = {column.key: column for column in ARMS}
    tips = [told["kind"], improved, told["seconds_per_step"], told["blocks"]]
    look: Mapping[str, Any] = {"series": "kind", "names": list(_KINDS.values()), "tips": tips}
    gained = b.Axis("improvement", scale="zero")
    several: dict[str, Any] = {"low": "low", "high": "high", "faint": single}
    yield b.Chart(
        "leaderboard", improved.title, "intervals", rows, gained, b.Axis("name"),
        caption="Points: means over the seeds, with 95 % intervals. Ticks: single seeds.",
        width="wide", **look, **(several if len(measure.seeds) >= FEWEST else {}),
    )  # fmt: skip
    yield b.Chart(
        "time", f"{improved.title} by step time", "scatter",
        [row for row in rows if row["same_as"] is None],  # Copies would lie on the arm itself.
        b.Axis("seconds_per_step", "seconds a step", scale="zero"), gained,
        caption="Up and to the left is better.", width="wide", height=220, **look,
    )  # fmt: skip


def _trials(measure: Measure) -> Iterator[b.Block]:
    """Yield each arm's improvement seed by seed, and rate by rate."""
    own = [arm for arm in measure.arms if arm.same_as is None]
    seeds = [Column(f"seed_{seed}", f"Seed {seed}") for seed in measure.seeds]
    rates = [Column(f"{rate:g}", f"{rate:g}", form="text") for rate in measure.ladder]
    trials = [
        {"name": arm.name, **{f"seed_{t.seed}": t.improvement for t in arm.trials}}
        for arm in own
        if arm.outcome
    ]
    rungs = []
    for arm in own:
        told = {"name": arm.name}
        for rung in arm.ladder:
            chosen = " ●" if rung.learning_rate == arm.learning_rate else ""
            text = "diverged" if rung.improvement is None else number(rung.improvement) + chosen
            told[f"{rung.learning_rate:g}"] = text
        rungs += [told] if arm.ladder else []
    yield b.Heading("Seed by seed", detail=True)
    yield b.Table("trials", [ARMS[0], *seeds], trials)
    yield b.Heading("How learning rates were chosen", detail=True)
    yield b.Text(_LADDER.format(measure.ladder_seed), quiet=True)
    yield b.Table("ladder", [ARMS[0], *rates], rungs)
