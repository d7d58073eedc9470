"""Pairs of profiles in; whether the shape is the model's or the optimizer's out."""

from collections.abc import Sequence

from layerwise.card.record import DataInfo
from layerwise.errors import BadInputError
from layerwise.profile.record import Control, ControlRun, Profile, Slope, StepSizes, Verdict
from layerwise.provenance import Provenance
from layerwise.signals.pooling import pooled

__all__ = ["judge", "pair_profiles"]


def pair_profiles(
    seed: int,
    standard: Profile,
    equal_step: Profile,
    *,
    tau: float,
    steps: tuple[tuple[StepSizes, ...], tuple[StepSizes, ...]] = ((), ()),
    losses: tuple[float | None, float | None] = (None, None),
) -> ControlRun:
    """Both conditions of one seed, with the verdict and the ratio from it alone.

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
    """The control of all `runs`: the slopes over their seeds, and the verdict from those.

    The verdict is arXiv 2604.17177's: intrinsic where the slope under equal-step is positive and
    its interval excludes 0, a gradient artefact where the interval includes 0 or lies below. How
    seeds are pooled is ours; see `layerwise.signals.pooling.pooled`.

    Raises:
        BadInputError: There is no run, or two are of one seed.
    """
    seeds = tuple(run.seed for run in runs)
    if not runs or len(set(seeds)) < len(seeds):
        message = "seeds of a control"
        shown = ",".join(map(str, seeds))
        raise BadInputError(message, value=shown, expected="one or more, each once")
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
    """The verdict in words: both slopes, the rule, and what stands against reading it so."""
    over = "probe inputs" if len(runs) == 1 else f"probe inputs and {len(runs)} seeds"
    label = "seed" if len(runs) == 1 else "seeds"
    seeds = ", ".join(str(run.seed) for run in runs)
    said = [
        f"The slope under equal-step is {_told(equal_step)}, {_where(equal_step)}, and under "
        f"standard {_told(standard)} (95 % intervals over {over}; {label} {seeds}"
        + (f"; ratio {ratio:.3g})." if ratio is not None else ").")
    ]
    if standard.low <= 0:
        what = "is not positive" if standard.slope <= 0 else "cannot be told from 0"
        said.append(f"The slope under standard {what}: there is no rise to explain.")
    if equal_step.low <= 0 and all(run.verdict == "intrinsic" for run in runs):
        said.append(
            f"Each seed alone would be intrinsic; {len(runs)} that differ this much are too few "
            "to say it of all."
        )
    return " ".join([*said, *_noise(runs)])


def _told(slope: Slope) -> str:
    return f"{slope.slope:.3g} ({slope.low:.3g} to {slope.high:.3g})"


def _where(slope: Slope) -> str:
    if slope.low > 0:
        return "above 0 with its whole interval"
    return "with an interval that includes 0" if slope.high >= 0 else "below 0"


def _noise(runs: Sequence[ControlRun]) -> list[str]:
    """Conditions under which, in some seed, no depth moved further than the probes' noise."""
    found = []
    for name, profiles in (
        ("standard", [run.standard for run in runs]),
        ("equal-step", [run.equal_step for run in runs]),
    ):
        still = [p for p in profiles if _most(p) <= p.noise_floor]
        if still:
            few = f" in {len(still)} of {len(runs)} seeds" if len(runs) > 1 else ""
            floor = max(p.noise_floor for p in still)
            found.append(
                f"Under {name}, no depth moved further than the noise floor of {floor:.3g}{few}: "
                "more --steps or a larger --learning-rate would tell more."
            )
    return found


def _most(profile: Profile) -> float:
    return max(depth.procrustes for depth in profile.depths)
