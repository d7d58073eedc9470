"""Trials as a leaderboard: means, intervals, places, and each arm against the recommended one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from layerwise.intervals import mean_interval, prediction_interval
from layerwise.measure.arms import ALL, RECOMMENDED
from layerwise.measure.record import ArmComparison, ArmResult, Measure, Outcome, Verdict
from layerwise.measure.trial import Trial

#: Random draws from which on being beyond all of them says as much as an interval: 1 in 20.
RANKED = 19

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
    low, high = mean_interval(values) or (None, None)
    seconds = median(trial.seconds_per_step for trial in trials)
    mean, all_of = float(values.mean()), everywhere.trials if everywhere else ()
    whole = improvements(all_of) if all_of else np.zeros(1)
    return Outcome(
        improvement=mean,
        low=low,
        high=high,
        seconds_per_step=seconds,
        peak_memory_bytes=max(trial.peak_memory_bytes for trial in trials),
        step_ratio=seconds / median(t.seconds_per_step for t in all_of) if all_of else None,
        kept=mean / float(whole.mean()) if _gains(whole) else None,
    )


def _gains(values: np.ndarray) -> bool:
    """Return whether the mean is above 0, with its whole interval where it has one."""
    ends = mean_interval(values)
    return float(values.mean()) > 0.0 and (ends is None or ends[0] > 0.0)


def compare_improvements(first: np.ndarray, second: np.ndarray) -> ArmComparison:
    """Return how much more `first` improved than `second`, one improvement a seed each, (s,)."""
    differences = first - second
    low, high = mean_interval(differences) or (None, None)
    return ArmComparison(float(differences.mean()), verdict_of(low, high), low, high)


def beside_random(recommended: np.ndarray, draws: Sequence[np.ndarray]) -> ArmComparison | None:
    """Return how much more the recommended arm improved than a random placement does.

    Against a placement that is drawn anew, so that what draws differ by counts: the interval is
    Student's for one more value like the means of the draws. From 19 draws on the verdict is by
    rank: beyond all of them, which a random placement is once in 20.

    Args:
        recommended: An improvement a seed, (s,).
        draws: The same for each random placement; their trials have the same seeds.

    Returns:
        None where nothing was drawn.
    """
    if not draws:
        return None
    means, own = np.array([draw.mean() for draw in draws]), float(recommended.mean())
    ends = prediction_interval(means)
    low, high = (own - ends[1], own - ends[0]) if ends else (None, None)
    verdict = verdict_of(low, high)
    if len(means) >= RANKED:
        verdict = "better" if own > means.max() else "no difference"
        verdict = "worse" if own < means.min() else verdict
    return ArmComparison(own - float(means.mean()), verdict, low, high)


def verdict_of(low: float | None, high: float | None) -> Verdict:
    """Return what an interval of a difference says; nothing where there is none."""
    if low is None or high is None:
        return "no difference"
    if low > 0.0:
        return "better"
    return "worse" if high < 0.0 else "no difference"


def headline(measure: Measure) -> str:
    """Return what `measure` found of the recommended placement, in a sentence."""
    if measure.against_random is None:
        return "The recommended placement was not held against random ones."
    if measure.against_random.low is None:
        return "Too few random draws to tell the recommended placement from one."
    return _HEADLINES[measure.verdict]


def random_draws(arms: Mapping[str, ArmResult]) -> list[np.ndarray]:
    """Return the improvements of each random draw that ran, a seed each, (s,)."""
    return [improvements(a.trials) for a in arms.values() if a.kind == "random" and a.trials]


def reason(recommended: ArmResult, arms: Sequence[ArmResult], against: ArmComparison | None) -> str:
    """Return where the recommended arm landed, in a sentence."""
    outcome = recommended.outcome
    equal = sum(arm.place is not None for arm in arms)
    drawn = sum(arm.kind == "random" and bool(arm.trials) for arm in arms)
    parts = [f"The recommended placement is number {recommended.place} of {equal} at equal budget"]
    if against is None:
        parts.append("no random placement was drawn to hold it against")
    else:
        told = f"beside a random placement its improvement is {against.difference:+.3g}"
        if against.low is None or against.high is None:
            few = f"{drawn} random draws" if drawn > 1 else "one random draw"
            parts.append(f"{told}, by {few}: too few to say what others would do")
        else:
            ends = f"({against.low:+.3g} to {against.high:+.3g}, {drawn} draws)"
            parts.append(f"{told} {ends}: {against.verdict}")
    whole = next((arm.trials for arm in arms if arm.name == ALL), ())
    if whole and not _gains(improvements(whole)):
        parts.append("adapters on all blocks gain nothing for sure, so there is nothing to keep")
    elif outcome and outcome.kept is not None and outcome.step_ratio is not None:
        kept = f"keeps {outcome.kept:.0%} of what adapters on all blocks improve"
        parts.append(f"it {kept}, in {outcome.step_ratio:.0%} of their step time")
    return "; ".join(parts) + "."
