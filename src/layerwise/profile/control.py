"""Standard against equal-step from the same start: is a profile's shape the optimizer's?"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from layerwise import distributed
from layerwise.card.record import DataInfo
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, OutputError
from layerwise.files import prepare_output, remove, write_atomic
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.profile.reading import Reading
from layerwise.profile.record import Control, ControlRun, Profile, StepSizes
from layerwise.profile.states import States
from layerwise.profile.verdict import judged, pair
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.tuning.conditions import CONDITIONS
from layerwise.tuning.outcome import matched_tau
from layerwise.tuning.record import TuneRecord, TuneSettings
from layerwise.tuning.results import RECORD, drop_former, save
from layerwise.tuning.run import Keep, Tuned, fine_tune
from layerwise.tuning.steplog import Entry
from layerwise.tuning.untouched import weights_kept

__all__ = [
    "EQUAL_STEP",
    "RUNS",
    "STANDARD",
    "KeepRuns",
    "Watch",
    "paired",
    "run_control",
    "unwatched",
]

log = logging.getLogger(__name__)

STANDARD, EQUAL_STEP = "standard", "equal-step"
RUNS = "runs"
"""The folder of the runs, beside the control."""

#: Given a condition and a seed, what to enter around that run and to call with its log's lines.
Watch = Callable[[str, int], AbstractContextManager[Callable[[Entry], None]]]


def unwatched(condition: str, seed: int) -> AbstractContextManager[Callable[[Entry], None]]:
    """What hears of a run and says nothing."""
    del condition, seed
    return nullcontext(lambda _: None)


@dataclass(frozen=True)
class KeepRuns:
    """What becomes of the runs of a control.

    Attributes:
        folder: Where each leaves ``runs/CONDITION-SEED`` with its record and log; None keeps none.
        weights: Whether the fine-tuned models are left there too.
        overwrite: Whether runs that lie there may be replaced.
        watch: Hears of each run as it goes.
    """

    folder: Path | None = None
    weights: bool = False
    overwrite: bool = False
    watch: Watch = unwatched

    def of(self, condition: str, seed: int) -> Path | None:
        """The folder of one run."""
        return None if self.folder is None else self.folder / RUNS / f"{condition}-{seed}"

    def every(self, seeds: Sequence[int]) -> list[Path]:
        """The folders of all runs; none where they are not kept."""
        found = (self.of(c, seed) for c in (STANDARD, EQUAL_STEP) for seed in seeds)
        return [folder for folder in found if folder is not None]


@dataclass(frozen=True)
class _Bench:
    """What all runs of a control share.

    Attributes:
        before: What the model made of the probes before any of them.
    """

    loaded: LoadedModel
    data: TextData
    objective: Objective
    reading: Reading
    settings: TuneSettings
    keep: KeepRuns
    before: States
    progress: Progress = field(default=silent)


def run_control(
    loaded: LoadedModel,
    data: TextData,
    objective: Objective,
    *,
    reading: Reading,
    settings: TuneSettings | None = None,
    seeds: Sequence[int] = (0,),
    keep: KeepRuns | None = None,
    progress: Progress = silent,
) -> Control:
    """Both conditions for each seed, profiled against one and the same start, and the verdict.

    The two runs of a seed begin with the same weights and see the same batches, masks and
    dropout. Where no tau is given it is matched to that seed's standard run: the median over
    layer groups and the first ``match_steps`` steps of ||dW|| / ||W||, out of the run's own log.
    The model is trained in place from a copy of its weights in main memory, and has them again
    when this returns or raises.

    Args:
        loaded: The model.
        data: The text.
        objective: The loss.
        reading: How profiles are taken.
        settings: How the runs are optimised; their seeds come from `seeds`, and every step is
            logged.
        seeds: Of the runs, a pair each.
        keep: What is kept of the runs; nothing where None.
        progress: Hears how far each reading of the probes is.

    Raises:
        BadInputError: A setting, the seeds or the data cannot be used.
        NonFiniteError: A loss, gradient or weight is NaN or infinite.
        OutputError: A run's folder holds a run, or cannot be written.
    """
    _refuse_seeds(seeds)
    _refuse_tau(settings.tau if settings else None)
    settings, keep = replace(settings or TuneSettings(), log_every=1), keep or KeepRuns()
    _refuse_taken(keep, seeds)
    before = reading.states(loaded, title="probes before", progress=progress)
    _make(keep, seeds)
    bench = _Bench(loaded, data, objective, reading, settings, keep, before, progress)
    found = [_both(bench, seed) for seed in seeds]
    notes = dict.fromkeys(note for _, _, told in found for note in told)
    return judged(
        [run for run, _, _ in found],
        provenance=collect(device=str(next(loaded.model.parameters()).device)),
        data=found[0][1],
        notes=tuple(notes),
    )


def _refuse_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        message = "seeds"
        shown = ",".join(map(str, seeds))
        raise BadInputError(
            message, value=shown, expected="one or more, each once", hint="--seeds 0,1,2"
        )


def _refuse_tau(tau: float | None) -> None:
    if tau is not None and not 0.0 < tau < float("inf"):
        message = "tau"
        hint = "--tau 1e-3, or none to match it to standard"
        raise BadInputError(message, value=tau, expected="a positive number", hint=hint)


def _refuse_taken(keep: KeepRuns, seeds: Sequence[int]) -> None:
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


def _make(keep: KeepRuns, seeds: Sequence[int]) -> None:
    """Make the runs' folders, and clear them of runs and links that are replaced."""
    if keep.folder is None or distributed.rank() != 0:
        return
    for folder in keep.every(seeds):
        for path in (folder.parent, folder):
            if path.is_symlink():
                remove(path, inside=keep.folder)
        drop_former(prepare_output(folder, holds=RECORD, overwrite=True), inside=keep.folder)


def _both(bench: _Bench, seed: int) -> tuple[ControlRun, DataInfo, tuple[str, ...]]:
    """The pair of one seed, what it was trained on, and what there is to note."""
    standard, first = _one(bench, STANDARD, seed, tau=None)
    asked = bench.settings.tau
    steps = bench.settings.match_steps
    tau = matched_tau(standard.log, steps=steps) if asked is None else asked
    equal_step, second = _one(bench, EQUAL_STEP, seed, tau=tau)
    notes = (*standard.record.notes, *equal_step.record.notes)
    records = standard.record, equal_step.record
    return paired(records, (first, second)), standard.record.data, notes


def paired(records: tuple[TuneRecord, TuneRecord], profiles: tuple[Profile, Profile]) -> ControlRun:
    """The pair of a standard and an equal-step run, with what their records say of them."""
    standard, equal_step = records
    if equal_step.tau is None:
        message = "equal-step run without a tau"
        raise BadInputError(message, value=equal_step.condition, expected="a run of equal-step")
    return pair(
        standard.settings.seed,
        *profiles,
        tau=equal_step.tau,
        steps=(_steps(standard), _steps(equal_step)),
        losses=(standard.outcome.loss, equal_step.outcome.loss),
    )


def _steps(record: TuneRecord) -> tuple[StepSizes, ...]:
    """The step of each layer group that moved."""
    return tuple(
        StepSizes(g.name, g.row, record.tau, g.step_ratio, g.step_ratio_low, g.step_ratio_high)
        for g in record.groups
        if g.step_ratio is not None
        and g.step_ratio_low is not None
        and g.step_ratio_high is not None
    )


def _one(bench: _Bench, condition: str, seed: int, *, tau: float | None) -> tuple[Tuned, Profile]:
    """One run and what it moved; the model has its first weights again after."""
    folder = bench.keep.of(condition, seed)
    settings = _read_by(condition, replace(bench.settings, seed=seed, tau=tau))
    with weights_kept(bench.loaded.model), bench.keep.watch(condition, seed) as on_step:
        tuned = fine_tune(
            bench.loaded,
            bench.data,
            bench.objective,
            condition=condition,
            settings=settings,
            keep=Keep(folder, on_step=on_step),
        )
        tuned = _kept(tuned, folder, weights=bench.keep.weights)
        named = _named(tuned, folder, condition, seed)
        title = f"probes after {condition}, seed {seed}"
        after = bench.reading.states(named, title=title, progress=bench.progress)
    provenance = collect(device=str(next(bench.loaded.model.parameters()).device))
    return tuned, bench.reading.profile(bench.before, after, provenance=provenance)


def _read_by(condition: str, settings: TuneSettings) -> TuneSettings:
    """`settings` with the defaults of those that the other condition alone reads."""
    own = TuneSettings()
    unread = CONDITIONS[STANDARD].reads | CONDITIONS[EQUAL_STEP].reads
    defaults = {name: getattr(own, name) for name in unread - CONDITIONS[condition].reads}
    return replace(settings, **defaults)


def _kept(tuned: Tuned, folder: Path | None, *, weights: bool) -> Tuned:
    """`tuned`, with its record in `folder`, and its weights if they are wanted."""
    if folder is None:
        return tuned
    if weights:
        return save(tuned, folder)
    if distributed.rank() == 0:
        write_atomic(folder / RECORD, tuned.record.to_json())
    return tuned


def _named(tuned: Tuned, folder: Path | None, condition: str, seed: int) -> LoadedModel:
    """The tuned model under the name of its run, and not under that of the model before."""
    files: Mapping[str, str] = tuned.record.files
    source = str(folder) if folder is not None else f"{condition}-{seed}"
    return replace(tuned.loaded, source=source, files=files, revision=None, notes=())
