"""The verdict on pairs of profiles: is their shape the model's or the optimizer's?"""

from collections.abc import Sequence

from layerwise.card.record import DataInfo
from layerwise.profile.record import Control, ControlRun, Profile, Slope, Verdict
from layerwise.provenance import Provenance
from layerwise.signals.over_seeds import pooled


def pair_profiles(seed: int, standard: Profile, equal_step: Profile, *, tau: float) -> ControlRun:
    """Return both conditions of one seed, with the verdict and the ratio from it alone."""
    slopes = _pooled([standard]), _pooled([equal_step])
    return ControlRun(
        seed, standard, equal_step, ratio=_ratio(*slopes), verdict=_verdict(slopes[1]), tau=tau
    )


def judge(
    runs: Sequence[ControlRun],
    *,
    provenance: Provenance,
    data: DataInfo | None = None,
    notes: Sequence[str] = (),
) -> Control:
    """Return the control of `runs`, each of another seed: slopes over all, the verdict from those.

    The verdict is arXiv 2604.17177's: intrinsic where the slope under equal-step is positive and
    its interval excludes 0, a gradient artefact where the interval includes 0 or lies below. How
    seeds are pooled is ours; see `layerwise.signals.over_seeds.pooled`.
    """
    standard = _pooled([run.standard for run in runs])
    equal_step = _pooled([run.equal_step for run in runs])
    ratio, verdict = _ratio(standard, equal_step), _verdict(equal_step)
    return Control(
        standard=runs[0].standard,
        equal_step=runs[0].equal_step,
        slopes={"standard": standard, "equal_step": equal_step},
        ratio=ratio,
        verdict=verdict,
        reason=_reason(runs, standard, equal_step, ratio),
        tau=runs[0].tau,
        seeds=tuple(run.seed for run in runs),
        runs=tuple(runs),
        provenance=provenance,
        data=data,
        notes=tuple(dict.fromkeys(notes)),
    )


def _pooled(profiles: Sequence[Profile]) -> Slope:
    ends = [(p.slope, p.slope_low, p.slope_high) for p in profiles]
    return Slope(*pooled(*zip(*ends, strict=True)))


def _verdict(equal_step: Slope) -> Verdict:
    return "intrinsic" if equal_step.slope > 0 and equal_step.low > 0 else "artefact"


def _ratio(standard: Slope, equal_step: Slope) -> float | None:
    return equal_step.slope / standard.slope if standard.slope else None


# --- In words -------------------------------------------------------------------------------------


def _reason(
    runs: Sequence[ControlRun], standard: Slope, equal_step: Slope, ratio: float | None
) -> str:
    """Return the verdict in words: both slopes, the rule, and what stands against reading it so."""
    over = "probe inputs" if len(runs) == 1 else f"probe inputs and {len(runs)} seeds"
    label = "seed" if len(runs) == 1 else "seeds"
    seeds = ", ".join(str(run.seed) for run in runs)
    first, second = (f"{s.slope:.3g} ({s.low:.3g} to {s.high:.3g})" for s in (standard, equal_step))
    if equal_step.low > 0:
        where = "above 0 with its whole interval"
    else:
        where = "with an interval that includes 0" if equal_step.high >= 0 else "below 0"
    sentences = [
        f"The slope under equal-step is {second}, {where}, and under "
        f"standard {first} (95 % intervals over {over}; {label} {seeds}"
        + (f"; ratio {ratio:.3g})." if ratio is not None else ").")
    ]
    if standard.low <= 0:
        what = "is not positive" if standard.slope <= 0 else "cannot be told from 0"
        sentences.append(f"The slope under standard {what}: there is no rise to explain.")
    if equal_step.low <= 0 and all(run.verdict == "intrinsic" for run in runs):
        sentences.append(
            f"Each seed alone would be intrinsic; {len(runs)} that differ this much are too few "
            "to say it of all."
        )
    sentences += _below_noise("standard", [run.standard for run in runs])
    sentences += _below_noise("equal-step", [run.equal_step for run in runs])
    return " ".join(sentences)


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
