"""Standard against equal-step from the same start: is a profile's shape the optimizer's?"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from layerwise import distributed
from layerwise.capture.restore import weights_kept
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, OutputError
from layerwise.files import prepare_output, remove
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.profile.probe_reading import ProbeReading
from layerwise.profile.record import Control, ControlRun, Profile, StepSizes
from layerwise.profile.verdict import SHARE, judge, movement, pair_profiles
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.tuning.adapters import has_adapters
from layerwise.tuning.conditions import CONDITIONS
from layerwise.tuning.outcome import matched_tau
from layerwise.tuning.record import TuneRecord, TuneSettings
from layerwise.tuning.results import RECORD, drop_former, save
from layerwise.tuning.run import Tuned, fine_tune
from layerwise.tuning.steplog import Entry
from layerwise.tuning.steps import Persistence

STANDARD, EQUAL_STEP = "standard", "equal-step"
RUNS = "runs"
"""The folder of the runs, beside the control."""

#: Trial runs that look for a tau, and how close to equal a movement is to be (ours).
_TRIES, _ALIKE = 4, 0.05


@dataclass(frozen=True)
class ControlPlan:
    """What is run, and how it is judged.

    Attributes:
        seeds: A pair of runs each.
        share: Of the standard slope; see `layerwise.profile.verdict.judge`.
        match: What a tau that is not given makes alike under both conditions: the median relative
            ``steps``, or the ``movement`` of all depths together, for which trial runs look.
    """

    seeds: Sequence[int] = (0, 1, 2)
    share: float = SHARE
    match: Literal["steps", "movement"] = "steps"


#: Takes a condition and a seed; is entered around that run, and gives what its log lines go to.
Watch = Callable[[str, int], AbstractContextManager[Callable[[Entry], None]]]


def no_watch(condition: str, seed: int) -> AbstractContextManager[Callable[[Entry], None]]:
    """Return a watch of a run that does nothing."""
    del condition, seed
    return nullcontext(lambda _: None)


@dataclass(frozen=True)
class RunStorage:
    """The place where the runs of a control are kept.

    Attributes:
        folder: Where each leaves ``runs/CONDITION-SEED`` with its record and log; None keeps none.
        weights: Whether the fine-tuned models are left there too.
        overwrite: Whether runs that lie there may be replaced.
        watch: Hears of each run as it goes.
    """

    folder: Path | None = None
    weights: bool = False
    overwrite: bool = False
    watch: Watch = no_watch

    def of(self, condition: str, seed: int) -> Path | None:
        """Return the folder of one run."""
        return None if self.folder is None else self.folder / RUNS / f"{condition}-{seed}"

    def every(self, seeds: Sequence[int]) -> list[Path]:
        """Return the folders of all runs; none where they are not kept."""
        every = (self.of(c, seed) for c in (STANDARD, EQUAL_STEP) for seed in seeds)
        return [folder for folder in every if folder is not None]


def run_control(
    loaded: LoadedModel,
    data: TextData,
    objective: Objective,
    *,
    reading: ProbeReading,
    settings: TuneSettings | None = None,
    plan: ControlPlan | None = None,
    keep: RunStorage | None = None,
    progress: Progress = silent,
) -> Control:
    """Train under both conditions for each seed, profile against one start, and judge.

    The two runs of a seed begin with the same weights and see the same batches, masks and
    dropout. Where no tau is given it is matched to that seed's standard run: the median over
    layer groups and the first ``match_steps`` steps of ||dW|| / ||W||, out of the run's own log.
    The model is trained in place from a copy of its weights in main memory, and has them again when
    this returns or raises. The runs' seeds are those of `plan`, not of `settings`, and every
    step is logged. Runs are kept nowhere where `keep` is None.

    Raises:
        BadInputError: A setting or the data cannot be used.
        NonFiniteError: A loss, gradient or weight is NaN or infinite.
        OutputError: A run's folder holds a run, or cannot be written.
    """
    settings, keep = replace(settings or TuneSettings(), log_every=1), keep or RunStorage()
    plan = plan or ControlPlan()
    seeds = plan.seeds
    _refuse_taken(keep, seeds)
    if has_adapters(loaded.model):
        msg = "control of a model with adapters: both of its conditions train the weights"
        hint = "the base alone; layerwise profile BASE ADAPTER says where an adapter moved"
        raise BadInputError(msg, value=loaded.source, expected="a model without", hint=hint)
    before = reading.states(loaded, title="probes before", progress=progress)
    _make(keep, seeds)

    def train(
        condition: str, seed: int, tau: float | None, *, kept: bool = True
    ) -> tuple[Tuned, Profile]:
        """Make one run and profile it; the model has its first weights again after."""
        folder = keep.of(condition, seed) if kept else None
        # What the other condition alone reads is left at its default.
        unread = CONDITIONS[STANDARD].reads | CONDITIONS[EQUAL_STEP].reads
        defaults = {n: getattr(TuneSettings, n) for n in unread - CONDITIONS[condition].reads}
        own = replace(settings, **{"seed": seed, "tau": tau, **defaults})
        with weights_kept(loaded.model), keep.watch(condition, seed) as on_step:
            how = Persistence(folder, on_step=on_step)
            tuned = fine_tune(loaded, data, objective, condition=condition, settings=own, keep=how)
            if folder is not None:
                tuned = save(tuned, folder, weights=keep.weights)
            after = replace(  # Under the name of its run, not under that of the model before.
                tuned.loaded,
                source=f"{condition}-{seed}" if folder is None else str(folder),
                files=tuned.record.files,
                revision=None,
                notes=(),
            )
            title = f"probes after {condition}, seed {seed}"
            states = reading.states(after, title=title, progress=progress)
        provenance = collect(device=str(loaded.device))
        return tuned, reading.profile(before, states, provenance=provenance)

    runs: list[ControlRun] = []
    records: list[TuneRecord] = []
    notes: list[str] = []
    for seed in seeds:
        standard, profile = train(STANDARD, seed, None)
        tau = settings.tau
        if tau is None:
            tau = matched_tau(standard.log, steps=settings.match_steps)
            if plan.match == "movement":

                def moved(
                    tried: float, seed: int = seed, profile: Profile = profile
                ) -> float | None:
                    _, other = train(EQUAL_STEP, seed, tried, kept=False)
                    return movement(profile, other)

                tau, told = alike(moved, tau)
                notes.append(f"seed {seed}: {told}")
        equal_step, other = train(EQUAL_STEP, seed, tau)
        both = standard.record, equal_step.record
        runs.append(pair_runs(both, (profile, other)))
        records += both
    return judge(
        runs,
        provenance=collect(device=str(loaded.device)),
        share=plan.share,
        data=records[0].data,
        notes=[*notes, *(note for record in records for note in record.notes)],
    )


def alike(moved: Callable[[float], float | None], tau: float) -> tuple[float, str]:
    """Return the tau at which `moved` is 1 to within 5 %, and how it was found, in words.

    As movement goes about as tau does, each try divides tau by what was found; where that leaves
    what is known to be too small and too large, it halves that range, on a log scale.

    Args:
        moved: How far all depths move at a tau, over how far they move under standard; None where
            nothing moves there.
        tau: Where to begin.
    """
    low, high = 0.0, math.inf
    for tries in range(1, _TRIES + 1):
        found = moved(tau)
        if not found:
            return tau, "nothing moved, so that tau is matched by steps"
        if abs(found - 1) <= _ALIKE:
            return tau, f"tau by movement, {found:.2f} of the standard run's, in {tries} trial runs"
        low, high = (tau, high) if found < 1 else (low, tau)
        tried = tau / found
        tau = tried if low < tried < high else math.sqrt(low * high)
    return tau, f"tau by movement was not found in {_TRIES} trial runs; the last is next to it"


def _refuse_taken(keep: RunStorage, seeds: Sequence[int]) -> None:
    """Raise, before any work is done, where a run would be lost or written somewhere else."""
    for folder in () if keep.overwrite else keep.every(seeds):
        link = next((path for path in (folder.parent, folder) if path.is_symlink()), None)
        if link is not None or (folder / RECORD).exists():
            message = (
                "link where the folder of a run should be"
                if link
                else f"folder of a run already holds a {RECORD}"
            )
            hint = "--overwrite to replace it, or another --out FOLDER"
            raise OutputError(message, value=link or folder, expected="an empty folder", hint=hint)


def _make(keep: RunStorage, seeds: Sequence[int]) -> None:
    """Make the runs' folders, and clear them of runs and links that are replaced."""
    if keep.folder is None or distributed.rank() != 0:
        return
    for folder in keep.every(seeds):
        for path in (folder.parent, folder):
            if path.is_symlink():
                remove(path, inside=keep.folder)
        drop_former(prepare_output(folder, holds=RECORD, overwrite=True), inside=keep.folder)


def pair_runs(
    records: tuple[TuneRecord, TuneRecord], profiles: tuple[Profile, Profile]
) -> ControlRun:
    """Return the pair of a standard and an equal-step run, with the figures of their records.

    Raises:
        BadInputError: The equal-step run names no tau.
    """
    standard, equal_step = records
    if equal_step.tau is None:
        message = "equal-step run without a tau"
        raise BadInputError(message, value=equal_step.condition, expected="a run of equal-step")
    run = pair_profiles(standard.settings.seed, *profiles, tau=equal_step.tau)
    return replace(
        run,
        standard_steps=_steps(standard),
        equal_step_steps=_steps(equal_step),
        standard_loss=standard.outcome.loss,
        equal_step_loss=equal_step.outcome.loss,
    )


def _steps(record: TuneRecord) -> tuple[StepSizes, ...]:
    """Return the step of each layer group that moved."""
    return tuple(
        StepSizes(g.name, g.row, record.tau, g.step_ratio, g.step_ratio_low, g.step_ratio_high)
        for g in record.groups
        if g.step_ratio is not None
        and g.step_ratio_low is not None
        and g.step_ratio_high is not None
    )
