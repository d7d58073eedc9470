"""The control of runs that are over: pairs of folders, each with its record and its weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError, ModelError, SchemaError
from layerwise.files import sha256
from layerwise.models.load import LoadedModel, load
from layerwise.profile.control import EQUAL_STEP, STANDARD, pair_runs
from layerwise.profile.probe_reading import ProbeReading
from layerwise.profile.record import Control, ControlRun
from layerwise.profile.states import States
from layerwise.profile.verdict import judge
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.records import to_plain
from layerwise.tuning.conditions import CONDITIONS
from layerwise.tuning.record import TuneRecord
from layerwise.tuning.results import INITIAL, RECORD
from layerwise.tuning.run import FREE

__all__ = ["ModelLoader", "control_from_runs"]

#: Settings that two runs of a pair may differ in: one condition's own, and what changes no weight.
_OWN = FREE | CONDITIONS[STANDARD].reads | CONDITIONS[EQUAL_STEP].reads


@dataclass(frozen=True)
class ModelLoader:
    """How models are loaded; see `layerwise.models.load.load`."""

    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False

    def load(self, source: str) -> LoadedModel:
        """The model that `source` names."""
        return load(
            source,
            device=self.device,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
        )


@dataclass(frozen=True)
class _FinishedRun:
    """A finished run."""

    folder: Path
    record: TuneRecord

    @property
    def base(self) -> str:
        """Where the model that it started from lies: random weights beside the result."""
        initial, model = self.folder / INITIAL, self.record.model
        if initial.is_dir():
            return str(initial)
        return f"{model.source}@{model.revision}" if model.revision else model.source


_RunPair = tuple[_FinishedRun, _FinishedRun]


def control_from_runs(
    pairs: Sequence[tuple[Path, Path]],
    *,
    reading: ProbeReading,
    loading: ModelLoader | None = None,
    progress: Progress = silent,
) -> Control:
    """The control of finished runs, each pair a standard and an equal-step run of one seed.

    Each model is loaded, shown the probes and let go, one at a time; a base that pairs share is
    read once.

    Args:
        pairs: Folders that `layerwise tune` wrote.
        reading: How profiles are taken.
        loading: How models are loaded.
        progress: Hears how far each reading of the probes is.

    Raises:
        SchemaError: A folder holds no run, or its weights are not those that its record names.
        BadInputError: The runs of a pair, or two pairs, are not of one experiment; says which key
            differs.
        ModelError: A model, or the base that a run names, cannot be loaded.
    """
    found = [_pair(*folders) for folders in pairs]
    _check_pairs(found)
    bases: dict[str, States] = {}
    loading, runs = loading or ModelLoader(), []
    for standard, equal_step in found:
        if standard.base not in bases:
            loaded = _base(standard, loading)
            bases[standard.base] = reading.states(loaded, title="probes before", progress=progress)
            del loaded
        runs.append(
            _profiled((standard, equal_step), bases[standard.base], reading, loading, progress)
        )
    return judge(
        runs,
        provenance=collect(device=loading.device),
        data=found[0][0].record.data,
        notes=tuple(note for each in found for run in each for note in run.record.notes),
    )


def _profiled(
    runs: _RunPair, before: States, reading: ProbeReading, loading: ModelLoader, progress: Progress
) -> ControlRun:
    profiles = []
    for run in runs:
        loaded = _checked(run, loading)
        title = f"probes after {run.record.condition}, seed {run.record.settings.seed}"
        after = reading.states(loaded, title=title, progress=progress)
        provenance = collect(device=str(next(loaded.model.parameters()).device))
        profiles.append(reading.profile(before, after, provenance=provenance))
        del loaded
    return pair_runs((runs[0].record, runs[1].record), (profiles[0], profiles[1]))


def _pair(standard: Path, equal_step: Path) -> _RunPair:
    """The two runs, in their places.

    Raises:
        SchemaError: A folder holds no run.
        BadInputError: One is of another condition, or they differ where they must not.
    """
    runs = []
    for folder, condition in ((standard, STANDARD), (equal_step, EQUAL_STEP)):
        record = TuneRecord.load(folder)
        if record.condition != condition:
            message = f"{condition} run of another condition: {folder}"
            hint = "--runs STANDARD EQUAL_STEP, in this order"
            raise BadInputError(message, value=record.condition, expected=condition, hint=hint)
        runs.append(_FinishedRun(folder if folder.is_dir() else folder.parent, record))
    pair = (runs[0], runs[1])
    _refuse_difference(pair[0], pair[1], _identity(pair[0]), _identity(pair[1]))
    return pair


def _identity(run: _FinishedRun) -> dict[str, Any]:
    """What both runs of a pair must have in common."""
    record, settings = run.record, to_plain(run.record.settings)
    return {
        **_experiment(run),
        "seed": settings.pop("seed"),
        "processes": record.outcome.processes,
        **{name: value for name, value in settings.items() if name not in _OWN},
    }


def _experiment(run: _FinishedRun) -> dict[str, Any]:
    """What all runs of a control must have in common."""
    record = run.record
    initial = _hashes(run.folder / INITIAL)
    return {
        "model": initial or dict(record.model.files) or record.model.source,
        "revision": record.model.revision,
        "data": record.data.sha256,
        "objective": record.data.objective,
        "max_length": record.data.max_length,
        "steps": record.settings.steps,
    }


def _hashes(folder: Path) -> Mapping[str, str]:
    """The hashes of the weights in `folder`; empty where it is not there."""
    return {file.name: sha256(file) for file in sorted(folder.glob("*.safetensors"))}


def _refuse_difference(
    first: _FinishedRun, second: _FinishedRun, one: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    differ = [key for key in one if one[key] != other.get(key)]
    if differ:
        key = differ[0]
        shown, wanted = (_shown(run, key, found) for run, found in ((second, other), (first, one)))
        message = f"runs of a control that differ in {', '.join(differ)}: {second.folder} has"
        hint = "layerwise tune with the same options but the condition"
        raise BadInputError(
            message, value=shown, expected=f"{wanted}, as in {first.folder}", hint=hint
        )


def _shown(run: _FinishedRun, key: str, identity: Mapping[str, Any]) -> str:
    """A value that differs, by its name where it is a hash."""
    names = {"model": run.record.model.source, "data": run.record.data.source}
    return str(names.get(key, identity.get(key)))


def _check_pairs(pairs: Sequence[_RunPair]) -> None:
    """Pairs are of one experiment, each of another seed.

    Raises:
        BadInputError: There is none, or two are of one seed, or they differ otherwise.
    """
    seeds = [standard.record.settings.seed for standard, _ in pairs]
    if not pairs or len(set(seeds)) < len(seeds):
        message = "seeds of the runs"
        shown = ",".join(map(str, seeds))
        raise BadInputError(
            message, value=shown, expected="one or more pairs, each of another seed"
        )
    first = pairs[0][0]
    for other, _ in pairs[1:]:
        _refuse_difference(first, other, dict(_shared(first)), dict(_shared(other)))


def _shared(run: _FinishedRun) -> Iterator[tuple[str, Any]]:
    """What pairs have in common: all but the start, where each seed drew its own."""
    drawn = (run.folder / INITIAL).is_dir()
    return ((k, v) for k, v in _experiment(run).items() if not (drawn and k == "model"))


def _base(run: _FinishedRun, loading: ModelLoader) -> LoadedModel:
    """The model that `run` started from.

    Raises:
        ModelError: It cannot be loaded.
        SchemaError: It is another one by now.
    """
    model = run.record.model
    try:
        loaded = loading.load(run.base)
    except ModelError as error:
        message = f"model that {run.folder / RECORD} started from ({error.what})"
        hint = error.hint or "put it back, or run the control anew"
        raise ModelError(message, value=run.base, expected=error.expected, hint=hint) from error
    if not (run.folder / INITIAL).is_dir():
        _refuse_other(loaded, model.files, what="model that is not what the runs started from")
    return loaded


def _checked(run: _FinishedRun, loading: ModelLoader) -> LoadedModel:
    """The model that `run` ended with.

    Raises:
        SchemaError: There are no weights, or they are not the record's.
    """
    if not run.record.files:
        message = "run whose weights were not kept"
        hint = "layerwise tune, or layerwise control --keep-weights"
        raise SchemaError(message, value=run.folder, expected="a folder with weights", hint=hint)
    loaded = loading.load(str(run.folder))
    _refuse_other(loaded, run.record.files, what="run whose files are not those of its record")
    return replace(loaded, notes=tuple(n for n in loaded.notes if n not in run.record.notes))


def _refuse_other(loaded: LoadedModel, files: Mapping[str, str], *, what: str) -> None:
    changed = [n for n, digest in loaded.files.items() if files.get(n, digest) != digest]
    if changed:
        raise SchemaError(
            what,
            value=f"{changed[0]} in {loaded.source}",
            expected=f"SHA-256 {files[changed[0]][:12]}…",
            hint="the same file, or a new run",
        )
