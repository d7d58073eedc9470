"""The verdict on pairs of profiles: is their shape the model's or the optimizer's?"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from layerwise.card.record import DataInfo
from layerwise.intervals import FEWEST, mean_interval, seeds_to_decide
from layerwise.profile.record import (
    Control,
    ControlRun,
    Difference,
    Profile,
    Slope,
    Verdict,
    refuse_other_probes,
)
from layerwise.provenance import Provenance

SHARE = 0.5
"""Of the standard slope: what must be left of it under equal-step to be the model's (ours)."""

_SATURATED = 0.75
"""Procrustes distance from which on a depth is as far from before as from anything (ours)."""

_COMPARABLE = 2.0
"""How many times more than under standard blocks may move under equal-step, and less (ours)."""


def pair_profiles(seed: int, standard: Profile, equal_step: Profile, *, tau: float) -> ControlRun:
    """Return both conditions of one seed, with their ratio and arXiv 2604.17177's reading of it."""
    return ControlRun(
        seed,
        standard,
        equal_step,
        ratio=_ratio(standard.slope, equal_step.slope),
        verdict="intrinsic" if equal_step.slope > 0 else "artefact",
        tau=tau,
        movement=movement(standard, equal_step),
    )


def judge(
    runs: Sequence[ControlRun],
    *,
    provenance: Provenance,
    share: float = SHARE,
    data: DataInfo | None = None,
    notes: Sequence[str] = (),
) -> Control:
    """Return the control of `runs`, each of another seed, with the verdict from all of them.

    Of each seed, d is the slope under equal-step less `share` of the slope under standard. The
    verdict (ours) is intrinsic where the 95 % interval of the mean d lies above 0, artefact where
    it lies below, else undecided: with fewer than three seeds there is no interval. It is
    undecided, too, where the standard slopes do not rise, or a profile is saturated, each depth
    beyond 0.75. arXiv 2604.17177 reads the sign of the equal-step slope; that stands beside it.

    Raises:
        BadInputError: Not all profiles are of one probe set.
    """
    of_all = (p.probes.shown for run in runs for p in (run.standard, run.equal_step))
    refuse_other_probes(of_all, what="profiles of a control")
    standard = np.array([run.standard.slope for run in runs])
    equal_step = np.array([run.equal_step.slope for run in runs])
    difference = _difference(equal_step - share * standard, share)
    stands_against = _against(runs)
    verdict = "undecided" if stands_against else _verdict(difference)
    moved = [run.movement for run in runs if run.movement is not None]
    control = Control(
        standard=runs[0].standard,
        equal_step=runs[0].equal_step,
        slopes={"standard": _slope(standard), "equal_step": _slope(equal_step)},
        ratio=_ratio(float(standard.mean()), float(equal_step.mean())),
        verdict=verdict,
        reason="",
        tau=runs[0].tau,
        seeds=tuple(run.seed for run in runs),
        runs=tuple(runs),
        provenance=provenance,
        difference=difference,
        movement=fmean(moved) if moved else None,
        sign="intrinsic" if equal_step.mean() > 0 else "artefact",
        data=data,
        notes=tuple(dict.fromkeys(notes)),
    )
    return _told(control, stands_against)


def _slope(values: np.ndarray) -> Slope:
    return Slope(float(values.mean()), *(mean_interval(values) or (None, None)))


def _difference(values: np.ndarray, share: float) -> Difference:
    ends = mean_interval(values)
    is_open = ends is None or ends[0] <= 0 <= ends[1]
    more = (seeds_to_decide(values) if len(values) >= FEWEST else None) if is_open else 0
    low, high = ends or (None, None)
    return Difference(share, float(values.mean()), low, high, more)


def _verdict(difference: Difference) -> Verdict:
    if difference.low is None or difference.high is None:
        return "undecided"
    if difference.low > 0:
        return "intrinsic"
    return "artefact" if difference.high < 0 else "undecided"


def _against(runs: Sequence[ControlRun]) -> list[str]:
    """Return what stands against any verdict, a sentence each."""
    found = []
    if fmean(run.standard.slope for run in runs) <= 0:
        found.append("The slope under standard is not positive: there is no rise to explain.")
    for name in ("standard", "equal_step"):
        profiles: list[Profile] = [getattr(run, name) for run in runs]
        least = min(fmean(depth) for depth in zip(*map(_changes, profiles), strict=True))
        if least > _SATURATED:
            told = name.replace("_", "-")
            found.append(
                f"Under {told} each depth moved by more than {_SATURATED} ({least:.2f} at least), "
                "so that slopes say nothing: fewer --steps or a smaller --learning-rate would."
            )
    return found


def _changes(profile: Profile) -> list[float]:
    return [depth.procrustes for depth in profile.depths]


def _ratio(standard: float, equal_step: float) -> float | None:
    return equal_step / standard if standard else None


def movement(standard: Profile, equal_step: Profile) -> float | None:
    """Return how much further all depths together moved under equal-step than under standard."""
    return _ratio(sum(_changes(standard)), sum(_changes(equal_step)))


# --- In words -------------------------------------------------------------------------------------


def _told(control: Control, stands_against: Sequence[str]) -> Control:
    """Return `control` with its verdict in words: the rule, its figures, what stands against it."""
    sentences = [_rule(control), *stands_against]
    if control.verdict == "undecided" and not stands_against:
        sentences.append(_more(control))
    if control.movement is not None:
        apart = max(control.movement, 1 / control.movement) if control.movement else np.inf
        told = f"In all, blocks moved {control.movement:.3g} times as far under equal-step"
        far = ", which is no comparable movement: --tau sets it" if apart > _COMPARABLE else ""
        sentences.append(f"{told}{far}.")
    sentences += _below_noise("standard", [run.standard for run in control.runs])
    sentences += _below_noise("equal-step", [run.equal_step for run in control.runs])
    return replace(control, reason=" ".join(sentences))


def _rule(control: Control) -> str:
    """Return both slopes and their difference in a sentence."""
    standard, equal_step = (_shown(control.slopes[key]) for key in ("standard", "equal_step"))
    difference, count = control.difference, len(control.seeds)
    share = 0.0 if difference is None else difference.share
    ratio = f"; ratio {control.ratio:.3g}" if control.ratio is not None else ""
    left = "" if difference is None else f"; beyond {share:.0%} of the former, {_shown(difference)}"
    return (
        f"The slope is {standard} under standard and {equal_step} under equal-step{left} "
        f"(95 % intervals over {count} {'seed' if count == 1 else 'seeds'}, "
        f"{', '.join(map(str, control.seeds))}{ratio})."
    )


def _shown(figure: Slope | Difference) -> str:
    interval = f" ({figure.low:.3g} to {figure.high:.3g})" if figure.low is not None else ""
    return f"{figure.slope:.3g}{interval}"


def _more(control: Control) -> str:
    """Return how many more seeds would decide."""
    count = len(control.seeds)
    if count < FEWEST:
        one = "One seed says" if count == 1 else "Two seeds say"
        return f"{one} nothing of other seeds: at least {FEWEST} decide."
    more = control.difference.more_seeds if control.difference else None
    if more is None:
        return "The interval includes 0, and a hundred more seeds like these would not decide."
    return f"The interval includes 0: about {more} more seeds like these would decide."


def _below_noise(condition: str, profiles: Sequence[Profile]) -> list[str]:
    """Return a sentence where, in some seed, no depth moved further than the probes' noise."""
    still = [p for p in profiles if max(d.procrustes for d in p.depths) <= p.noise_floor]
    if not still:
        return []
    few = f" in {len(still)} of {len(profiles)} seeds" if len(profiles) > 1 else ""
    floor = max(p.noise_floor for p in still)
    told = (
        f"Under {condition}, no depth moved further than the noise floor of {floor:.3g}{few}: "
        "more --steps or a larger --learning-rate would tell more."
    )
    return [told]
