"""Trials as a leaderboard: means, intervals, places, and each arm against the recommended one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median

import numpy as np

from layerwise.measure.arms import ALL, RECOMMENDED
from layerwise.measure.record import ArmComparison, ArmResult, Measure, Outcome, Verdict
from layerwise.measure.trial import Trial
from layerwise.signals.over_seeds import seed_interval

#: Seeds below this many cannot tell two arms apart, whatever the interval (ours).
FEWEST = 3

_HEADLINES = {
    "better": "The recommended placement is better than a random one.",
    "no difference": "No difference between the recommended placement and a random one.",
    "worse": "The recommended placement is worse than a random one.",
}


def rank_arms(arms: Sequence[ArmResult]) -> tuple[ArmResult, ...]:
    """Return `arms` with outcomes, places and comparisons; the best first, failed ones last."""
    by_name = {arm.name: arm for arm in arms}
    everywhere = by_name.get(ALL)
    told = [replace(arm, outcome=_outcome(arm.trials, everywhere)) for arm in arms]
    means = [arm.outcome.improvement for arm in told if arm.outcome and arm.equal]
    reference = improvements(by_name[RECOMMENDED].trials)
    done = [_placed(arm, means, reference) for arm in told]
    gains = {arm.name: arm.outcome.improvement for arm in done if arm.outcome}
    return tuple(sorted(done, key=lambda arm: -gains.get(arm.name, float("-inf"))))


def _placed(arm: ArmResult, means: Sequence[float], reference: np.ndarray) -> ArmResult:
    """Return `arm` with its place among `means`, held against the improvements of `reference`."""
    if arm.outcome is None:
        return arm
    better = sum(mean > arm.outcome.improvement for mean in means)
    against = compare_improvements(improvements(arm.trials), reference)
    return replace(
        arm,
        place=better + 1 if arm.equal else None,
        against=None if arm.name == RECOMMENDED else against,
    )


def improvements(trials: Sequence[Trial]) -> np.ndarray:
    """Return each trial's improvement, float64 (s,), in the order of the seeds."""
    return np.array([trial.improvement for trial in trials], dtype=np.float64)


def _outcome(trials: Sequence[Trial], everywhere: ArmResult | None) -> Outcome | None:
    """Return the trials of an arm together, and beside those of `everywhere`; None without any."""
    if not trials:
        return None
    values = improvements(trials)
    low, high = seed_interval(values) or (None, None)
    seconds = median(trial.seconds_per_step for trial in trials)
    mean, all_of = float(values.mean()), everywhere.trials if everywhere else ()
    whole = fmean(trial.improvement for trial in all_of) if all_of else 0.0
    return Outcome(
        improvement=mean,
        low=low,
        high=high,
        seconds_per_step=seconds,
        peak_memory_bytes=max(trial.peak_memory_bytes for trial in trials),
        step_ratio=seconds / median(t.seconds_per_step for t in all_of) if all_of else None,
        kept=mean / whole if whole > 0.0 else None,
    )


def compare_improvements(first: np.ndarray, second: np.ndarray) -> ArmComparison:
    """Return how much more `first` improved than `second`, one improvement a seed each, (s,)."""
    differences = first - second
    low, high = seed_interval(differences) or (None, None)
    told = verdict_of(low, high, seeds=len(differences))
    return ArmComparison(float(differences.mean()), told, low, high)


def verdict_of(low: float | None, high: float | None, *, seeds: int) -> Verdict:
    """Return what an interval of a difference says; nothing where there are too few seeds."""
    if low is None or high is None or seeds < FEWEST:
        return "no difference"
    if low > 0.0:
        return "better"
    return "worse" if high < 0.0 else "no difference"


def headline(measure: Measure) -> str:
    """Return what `measure` found of the recommended placement, in a sentence."""
    if measure.against_random is None:
        return "The recommended placement was not held against random ones."
    if len(measure.seeds) < FEWEST:
        return "Too few seeds to tell the recommended placement from a random one."
    return _HEADLINES[measure.verdict]


def mean_of_random(arms: Mapping[str, ArmResult]) -> np.ndarray | None:
    """Return the mean improvement over random draws, seed by seed, (s,); None without draws."""
    drawn = [improvements(a.trials) for a in arms.values() if a.kind == "random" and a.trials]
    return np.mean(drawn, axis=0) if drawn else None


def reason(recommended: ArmResult, arms: Sequence[ArmResult], against: ArmComparison | None) -> str:
    """Return where the recommended arm landed, in a sentence."""
    seeds, outcome = len(recommended.trials), recommended.outcome
    equal = sum(arm.place is not None for arm in arms)
    parts = [f"The recommended placement is number {recommended.place} of {equal} at equal budget"]
    if against is None:
        parts.append("no random placement was drawn to hold it against")
    else:
        told = f"beside the mean random draw its improvement is {against.difference:+.3g}"
        if against.low is None or against.high is None:
            parts.append(f"{told}, from one seed")
        else:
            ends = f"({against.low:+.3g} to {against.high:+.3g}, {seeds} seeds)"
            parts.append(f"{told} {ends}: {against.verdict}")
    if outcome and outcome.kept is not None and outcome.step_ratio is not None:
        kept = f"keeps {outcome.kept:.0%} of what adapters on all blocks improve"
        parts.append(f"it {kept}, in {outcome.step_ratio:.0%} of their step time")
    return "; ".join(parts) + "."
