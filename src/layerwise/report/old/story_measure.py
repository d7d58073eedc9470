"""What a measurement says, in words: the same on a page and on a terminal."""

from collections.abc import Sequence

from layerwise.card.record import Measurement
from layerwise.measure.leaderboard import FEWEST
from layerwise.measure.record import ArmComparison, ArmResult, Measure
from layerwise.report.old.columns import quantity
from layerwise.report.old.story import number, percent, with_interval
from layerwise.report.old.text import ranges, shown

__all__ = [
    "KINDS",
    "against_text",
    "arm_blocks",
    "gained",
    "improvement_text",
    "ladder_text",
    "measure_headline",
    "measure_reasons",
    "memory_text",
    "place_text",
    "rate_text",
    "seeds_text",
    "share_text",
    "step_text",
    "told_arms",
    "told_value",
]

KINDS = {
    "recommended": "the card's advice",
    "policy": "policy",
    "incumbent": "other tool",
    "random": "random",
    "everywhere": "all blocks",
}
"""What each kind of arm is called."""

_HEADLINES = {
    "better": "The recommended placement is better than a random one.",
    "no difference": "No difference between the recommended placement and a random one.",
    "worse": "The recommended placement is worse than a random one.",
}


def measure_headline(measure: Measure) -> str:
    """The verdict in a sentence."""
    if measure.against_random is None:
        return "The recommended placement was not held against random ones."
    if len(measure.seeds) < FEWEST:
        return "Too few seeds to tell the recommended placement from a random one."
    return _HEADLINES[measure.verdict]


def measure_reasons(measure: Measure) -> list[str]:
    """The figures behind the verdict, and what they do not cover."""
    return [measure.reason, *_failures(measure), *_ladder_ends(measure), _caution(measure)]


def _failures(measure: Measure) -> list[str]:
    return [f"{arm.name} is left out: {shown(arm.failed, limit=200)}." for arm in _failed(measure)]


def _failed(measure: Measure) -> list[ArmResult]:
    return [arm for arm in measure.arms if arm.failed]


def _ladder_ends(measure: Measure) -> list[str]:
    """That rates beyond the ladder might have suited arms better, where that is so."""
    rates = sorted(measure.ladder)
    if len(rates) == 1:
        return [f"All arms had one learning rate, {rates[0]:g}, which may suit some better."]
    return [
        *_at_end(measure, rates[-1], end="largest", beyond="larger"),
        *_at_end(measure, rates[0], end="smallest", beyond="smaller"),
    ]


def _at_end(measure: Measure, rate: float, *, end: str, beyond: str) -> list[str]:
    """How many arms chose `rate`, an end of the ladder; nothing where none did."""
    ran = [arm for arm in told_arms(measure) if arm.same_as is None]
    count = sum(arm.learning_rate == rate for arm in ran)
    told = f"The ladder's {end} rate, {rate:g}, suited {count} of {len(ran)} arms best"
    return [f"{told}: {beyond} ones might put them in another order."] if count else []


def _caution(measure: Measure) -> str:
    """What the intervals are over, and what they leave out."""
    if len(measure.seeds) < 2:
        return f"One seed has no interval; {FEWEST} or more are needed to tell two arms apart."
    return (
        f"Intervals (95 %) are over {len(measure.seeds)} paired seeds, not over the "
        f"{measure.validation:,} validation examples, and each arm is judged alone."
    )


def seeds_text(measure: Measure) -> str:
    """How many seeds there were."""
    return "1 seed" if len(measure.seeds) == 1 else f"{len(measure.seeds)} paired seeds"


def gained(measure: Measure | Measurement) -> str:
    """What the improvement is in."""
    return "fall of loss" if measure.quality == "loss" else f"gain of {shown(measure.quality)}"


def told_arms(measure: Measure) -> list[ArmResult]:
    """The arms that were measured."""
    return [arm for arm in measure.arms if arm.outcome]


def arm_blocks(arm: ArmResult) -> str:
    """An arm's blocks, with the names of their stacks where there are several."""
    stacks = dict.fromkeys(block.stack for block in arm.blocks)
    parts = [_of_stack(arm, stack, named=len(stacks) > 1) for stack in stacks]
    return "; ".join(parts)


def _of_stack(arm: ArmResult, stack: str, *, named: bool) -> str:
    told = ranges(block.index for block in arm.blocks if block.stack == stack)
    return f"{shown(stack, limit=30)} {told}" if named else told


def improvement_text(arm: ArmResult) -> str:
    """An arm's improvement on its interval; empty where there is none."""
    found = arm.outcome
    return "" if found is None else told_value(found.improvement, found.low, found.high)


def against_text(against: ArmComparison | None) -> str:
    """A comparison with its verdict; empty where there is none."""
    if against is None:
        return ""
    return f"{told_value(against.difference, against.low, against.high)}, {against.verdict}"


def told_value(value: float, low: float | None, high: float | None) -> str:
    """`value` on its interval, where it has one."""
    if low is None or high is None:
        return number(value)
    return with_interval(value, low, high)


def place_text(arm: ArmResult) -> str:
    """An arm's place among those of the same budget."""
    return "–" if arm.place is None else str(arm.place)


def share_text(share: float | None) -> str:
    """A share, or a dash where it is not known."""
    return "–" if share is None else percent(share)


def rate_text(rate: float | None) -> str:
    """A learning rate."""
    return "–" if rate is None else f"{rate:g}"


def step_text(arm: ArmResult) -> str:
    """Time of a step."""
    return quantity(arm.outcome.seconds_per_step, "s") if arm.outcome else ""


def memory_text(arm: ArmResult) -> str:
    """The largest memory in use."""
    return quantity(arm.outcome.peak_memory_bytes, "B") if arm.outcome else ""


def ladder_text(arm: ArmResult, rates: Sequence[float]) -> list[str]:
    """What an arm improved at each rate of the ladder."""
    tried = {rung.learning_rate: rung.improvement for rung in arm.ladder}
    cells = []
    for rate in rates:
        found = tried.get(rate)
        mark = " ●" if rate == arm.learning_rate else ""
        cells.append("diverged" if found is None else f"{number(found)}{mark}")
    return cells
