"""What a profile and a control say, in words: the same on a page and on a terminal."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, linear_regression, median
from typing import get_args

from layerwise.profile.record import (
    Control,
    ControlRun,
    DepthChange,
    Profile,
    Readout,
    ReadoutProfile,
    Slope,
    StepSizes,
)
from layerwise.report.old.columns import NumberStyle, number_style
from layerwise.report.old.text import model_name, shown

__all__ = [
    "CONDITIONS",
    "condition_profiles",
    "control_headline",
    "control_reasons",
    "every_block",
    "every_note",
    "every_untrained",
    "mean_changes",
    "mean_loss",
    "moved",
    "moved_most",
    "number",
    "percent",
    "profile_headline",
    "profile_reasons",
    "profile_title",
    "readouts",
    "slope_text",
    "span",
    "step_groups",
    "with_interval",
]

CONDITIONS = {"standard": "standard", "equal_step": "equal-step"}
"""Both conditions of a control: the field of its record, and its name."""


def number(value: float | None) -> str:
    """`value` with three significant digits."""
    return _style([value]).alone(value)


def _style(values: Sequence[float | None]) -> NumberStyle:
    """One style for `values`, without a power of ten down to 0.0001."""
    most = max((abs(value) for value in values if value), default=0.0)
    if 1e-4 <= most < 1e-2:
        return NumberStyle(0, 2 - math.floor(math.log10(most)))
    return number_style(values)


def percent(share: float) -> str:
    """A share as a whole percentage."""
    return f"{share:.0%}".replace("%", " %")


def span(value: float, low: float, high: float) -> tuple[str, str]:
    """`value`, and both ends of its interval, in one style."""
    style = _style([value, low, high])
    return style.alone(value), f"{style.text(low)} to {style.alone(high)}"


def with_interval(value: float, low: float, high: float) -> str:
    """`value` with both ends of its interval beside it, in one style."""
    style = _style([value, low, high])
    text = f"{style.text(value)} ({style.text(low)} to {style.text(high)})"
    return f"{text} {style.suffix}".rstrip()


def slope_text(found: Profile | ReadoutProfile) -> str:
    """The slope of a profile with its interval."""
    return with_interval(found.slope, found.slope_low, found.slope_high)


def readouts(profile: Profile) -> Mapping[str, ReadoutProfile]:
    """The readouts of `profile` that there can be, in one order."""
    return {n: profile.readouts[n] for n in get_args(Readout) if n in profile.readouts}


def every_block(profile: Profile | ReadoutProfile) -> tuple[DepthChange, ...]:
    """Every block of a profile; its seven depths where that is all it has."""
    return profile.blocks or profile.depths


# --- A profile --------------------------------------------------------------------------------


def profile_title(profile: Profile) -> str:
    """Both models by name."""
    before, after = (shown(model_name(m), limit=80) for m in (profile.before, profile.after))
    return f"{before} → {after}"


def moved_most(profile: Profile) -> DepthChange:
    """The block with the largest Procrustes distance."""
    return max(every_block(profile), key=lambda block: block.procrustes)


def moved(profile: Profile) -> bool:
    """Whether any block moved by more than the noise floor."""
    return bool(profile.width) and moved_most(profile).procrustes > profile.noise_floor


def profile_headline(profile: Profile) -> str:
    """What moved, in one sentence."""
    if not profile.width:
        return "Nothing moved: the representations before and after are the same at every depth."
    if not moved(profile):
        return "Nothing moved beyond the noise of the probes."
    most = f"block {moved_most(profile).index} moved most"
    if _last_alone(profile) is not None:
        return f"Change rises at the last depth alone: {most}."
    return f"Change {_direction(profile)} over depth: {most}."


def _last_alone(profile: Profile) -> float | None:
    """The slope without the last depth, where the rise is that depth's alone; else None."""
    below = profile.depths[:-1]
    if _direction(profile) != "rises" or len({depth.relative for depth in below}) < 2:
        return None
    relative = [depth.relative for depth in below]
    slope = linear_regression(relative, [depth.procrustes for depth in below]).slope
    return slope if slope <= 0 else None


def _direction(found: Profile | ReadoutProfile | Slope) -> str:
    """Whether the interval of the slope lies above 0, below 0, or holds it."""
    low, high = (
        (found.low, found.high) if isinstance(found, Slope) else (found.slope_low, found.slope_high)
    )
    return "rises" if low > 0 else "falls" if high < 0 else "has no clear direction"


def profile_reasons(profile: Profile) -> list[str]:
    """The figures behind the headline, a sentence each."""
    if not profile.width:
        return []
    return [_how_far(profile), _how_steep(profile), *_agreement(profile)]


def _how_far(profile: Profile) -> str:
    most = moved_most(profile)
    far = f"The Procrustes distance reaches {number(most.procrustes)} at block {most.index}"
    floor = profile.noise_floor
    if floor <= 0:
        return f"{far}; halves of the probes agree on every distance."
    times = most.procrustes / floor
    told = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return f"{far}, {told} times the noise floor of {number(floor)}."


def _how_steep(profile: Profile) -> str:
    share = f"{percent(profile.width[-1])} of the CKA change over the seven depths"
    alone = _last_alone(profile)
    told = (
        f"The slope over relative depth is {slope_text(profile)}, and the last depth holds "
        f"{share}, where an even profile would hold {percent(1 / len(profile.width))}."
    )
    return told if alone is None else f"{told} Without the last depth the slope is {number(alone)}."


def _agreement(profile: Profile) -> list[str]:
    """Whether the shape is there under each readout, or only under some."""
    found = readouts(profile)
    if len(found) < 2:
        return []
    told = ", ".join(f"{name} {number(r.slope)}" for name, r in found.items())
    if len({_direction(r) for r in found.values()}) == 1:
        return [f"The readouts agree on the direction: slopes {told}."]
    which = ", ".join(f"it {_direction(r)} under {name}" for name, r in found.items())
    why = "They differ in what they do about the final norm: part of the shape is that norm's."
    return [f"The readouts disagree: {which}. {why}"]


# --- A control --------------------------------------------------------------------------------


def condition_profiles(control: Control, condition: str) -> list[Profile]:
    """The profiles of `condition`, ``standard`` or ``equal_step``, one a seed."""
    return [_profile(run, condition) for run in control.runs] or [_profile(control, condition)]


def _profile(record: Control | ControlRun, condition: str) -> Profile:
    return record.standard if condition == "standard" else record.equal_step


def mean_changes(profiles: Sequence[Profile], readout: str | None = None) -> dict[int, float]:
    """The mean Procrustes distance of each block over `profiles`, by its index."""
    found: dict[int, list[float]] = {}
    for profile in profiles:
        for block in every_block(profile.readouts[readout] if readout else profile):
            found.setdefault(block.index, []).append(block.procrustes)
    return {index: fmean(changes) for index, changes in found.items()}


def step_groups(control: Control, condition: str) -> list[StepSizes]:
    """The relative step of each layer group over all seeds of `condition`.

    The median is that of the seeds' medians; low and high are the outermost of theirs.
    """
    found: dict[tuple[str, int | None], list[StepSizes]] = {}
    for run in control.runs:
        for group in getattr(run, f"{condition}_steps"):
            found.setdefault((group.group, group.row), []).append(group)
    return [
        StepSizes(
            name,
            row,
            seeds[0].asked,
            median(group.median for group in seeds),
            min(group.low for group in seeds),
            max(group.high for group in seeds),
        )
        for (name, row), seeds in found.items()
    ]


def control_headline(control: Control) -> str:
    """The verdict in plain words."""
    if control.verdict == "intrinsic":
        return (
            "Intrinsic: deeper blocks move more even where all take the same relative step. "
            "The shape is the model's."
        )
    if _direction(control.slopes["standard"]) != "rises":
        return (
            "Artefact by the rule, but there is no rise to explain: under neither condition do "
            "deeper blocks move more."
        )
    return (
        "Gradient artefact: where all blocks take the same relative step, deeper ones no longer "
        "move more. The shape is the optimizer's."
    )


def control_reasons(control: Control) -> list[str]:
    """What stands behind the verdict, a sentence each."""
    return [shown(control.reason, limit=800), _seeds(control), *_losses(control)]


def _seeds(control: Control) -> str:
    alone = sum(run.verdict == control.verdict for run in control.runs)
    if len(control.runs) < 2:
        return "One seed: the interval is over probe inputs, not over runs."
    if alone == len(control.runs):
        return f"Each of the {alone} seeds alone gives the same verdict."
    return f"{alone} of {len(control.runs)} seeds alone give the same verdict."


def _losses(control: Control) -> list[str]:
    both = [mean_loss(control, condition) for condition in CONDITIONS]
    if None in both:
        return []
    standard, equal = (number(loss) for loss in both)
    return [f"Training loss ended at {standard} under standard and {equal} under equal-step."]


def mean_loss(control: Control, condition: str) -> float | None:
    """The mean over the seeds of the loss that `condition` reached; None where none is known."""
    losses = [getattr(run, f"{condition}_loss") for run in control.runs]
    known = [loss for loss in losses if loss is not None]
    return fmean(known) if known else None


def every_note(control: Control) -> tuple[str, ...]:
    """The notes of the control and of all its profiles, each once."""
    profiles = _all_profiles(control)
    return tuple(dict.fromkeys([*control.notes, *(n for p in profiles for n in p.notes)]))


def every_untrained(control: Control) -> tuple[str, ...]:
    """Modules whose adapters never trained, in any run."""
    profiles = _all_profiles(control)
    return tuple(dict.fromkeys(name for p in profiles for name in p.untrained_modules))


def _all_profiles(control: Control) -> list[Profile]:
    return [p for condition in CONDITIONS for p in condition_profiles(control, condition)]
