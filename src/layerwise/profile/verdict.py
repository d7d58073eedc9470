"""The verdict on pairs of profiles: is their shape the model's or the optimizer's?"""

from collections.abc import Sequence

from layerwise.card.record import DataInfo
from layerwise.errors import BadInputError
from layerwise.profile.record import Control, ControlRun, Profile, Slope, StepSizes, Verdict
from layerwise.provenance import Provenance
from layerwise.signals.over_seeds import pooled

__all__ = ["judge", "pair_profiles", "refuse_seeds"]


def pair_profiles(
    seed: int,
    standard: Profile,
    equal_step: Profile,
    *,
    tau: float,
    steps: tuple[tuple[StepSizes, ...], tuple[StepSizes, ...]] = ((), ()),
    losses: tuple[float | None, float | None] = (None, None),
) -> ControlRun:
    """Return both conditions of one seed, with the verdict and the ratio from it alone.

    Args:
        seed: Of both runs.
        standard: What moved under the standard condition.
        equal_step: What moved under equal-step.
        tau: The relative step of equal-step.
        steps: The steps of the layer groups under standard and under equal-step.
        losses: The losses at the end, likewise.
    """
    return ControlRun(
        seed=seed,
        standard=standard,
        equal_step=equal_step,
        ratio=_ratio(_slope(standard), _slope(equal_step)),
        verdict=_verdict(_slope(equal_step)),
        tau=tau,
        standard_steps=steps[0],
        equal_step_steps=steps[1],
        standard_loss=losses[0],
        equal_step_loss=losses[1],
    )


def judge(
    runs: Sequence[ControlRun],
    *,
    provenance: Provenance,
    data: DataInfo | None = None,
    notes: Sequence[str] = (),
) -> Control:
    """Return the control of all `runs`: the slopes over their seeds, and the verdict from those.

    The verdict is arXiv 2604.17177's: intrinsic where the slope under equal-step is positive and
    its interval excludes 0, a gradient artefact where the interval includes 0 or lies below. How
    seeds are pooled is ours; see `layerwise.signals.over_seeds.pooled`.

    Raises:
        BadInputError: There is no run, or two are of one seed.
    """
    seeds = tuple(run.seed for run in runs)
    refuse_seeds(seeds, "seeds of a control", expected="one or more, each once")
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
        seeds=seeds,
        runs=tuple(runs),
        provenance=provenance,
        data=data,
        notes=tuple(dict.fromkeys(notes)),
    )


def refuse_seeds(seeds: Sequence[int], what: str, *, expected: str, hint: str = "") -> None:
    """Raise where there are no seeds, or one stands twice.

    Raises:
        BadInputError: It is so.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise BadInputError(what, value=",".join(map(str, seeds)), expected=expected, hint=hint)


def _slope(profile: Profile) -> Slope:
    return Slope(profile.slope, profile.slope_low, profile.slope_high)


def _pooled(profiles: Sequence[Profile]) -> Slope:
    slopes = [_slope(profile) for profile in profiles]
    return Slope(
        *pooled([s.slope for s in slopes], [s.low for s in slopes], [s.high for s in slopes])
    )


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
    sentence = (
        f"Under {condition}, no depth moved further than the noise floor of {floor:.3g}{few}: "
        "more --steps or a larger --learning-rate would tell more."
    )
    return [sentence]
