"""Standard against equal-step from the same start: is a profile's shape the optimizer's?"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from layerwise import distributed
from layerwise.capture.restore import weights_kept
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, OutputError
from layerwise.files import prepare_output, remove
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.profile.probe_reading import ProbeReading
from layerwise.profile.record import Control, ControlRun, Profile, StepSizes
from layerwise.profile.verdict import judge, pair_profiles
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
    seeds: Sequence[int] = (0,),
    keep: RunStorage | None = None,
    progress: Progress = silent,
) -> Control:
    """Train under both conditions for each seed, profile against one start, and judge.

    The two runs of a seed begin with the same weights and see the same batches, masks and
    dropout. Where no tau is given it is matched to that seed's standard run: the median over
    layer groups and the first ``match_steps`` steps of ||dW|| / ||W||, out of the run's own log.
    The model is trained in place from a copy of its weights in main memory, and has them again
    when this returns or raises. The runs' seeds are `seeds`, not that of `settings`, and every
    step is logged. Runs are kept nowhere where `keep` is None.

    Raises:
        BadInputError: A setting or the data cannot be used.
        NonFiniteError: A loss, gradient or weight is NaN or infinite.
        OutputError: A run's folder holds a run, or cannot be written.
    """
    settings, keep = replace(settings or TuneSettings(), log_every=1), keep or RunStorage()
    _refuse_taken(keep, seeds)
    if has_adapters(loaded.model):
        msg = "control of a model with adapters: both of its conditions train the weights"
        hint = "the base alone; layerwise profile BASE ADAPTER says where an adapter moved"
        raise BadInputError(msg, value=loaded.source, expected="a model without", hint=hint)
    before = reading.states(loaded, title="probes before", progress=progress)
    _make(keep, seeds)

    def train(condition: str, seed: int, tau: float | None) -> tuple[Tuned, Profile]:
        """Make one run and profile it; the model has its first weights again after."""
        folder = keep.of(condition, seed)
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
    for seed in seeds:
        standard, profile = train(STANDARD, seed, None)
        tau = settings.tau
        if tau is None:
            tau = matched_tau(standard.log, steps=settings.match_steps)
        equal_step, other = train(EQUAL_STEP, seed, tau)
        both = standard.record, equal_step.record
        runs.append(pair_runs(both, (profile, other)))
        records += both
    return judge(
        runs,
        provenance=collect(device=str(loaded.device)),
        data=records[0].data,
        notes=[note for record in records for note in record.notes],
    )


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
