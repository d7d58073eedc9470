"""The control of finished runs: pairs of folders, each with its record and its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from layerwise.errors import BadInputError, ModelError, SchemaError
from layerwise.files import sha256
from layerwise.models.load import LoadedModel, load
from layerwise.profile.control import EQUAL_STEP, STANDARD, pair_runs
from layerwise.profile.probe_reading import ProbeReading
from layerwise.profile.record import Control
from layerwise.profile.states import States
from layerwise.profile.verdict import SHARE, judge
from layerwise.progress import Progress, silent
from layerwise.provenance import collect
from layerwise.records import to_plain
from layerwise.tuning.conditions import CONDITIONS
from layerwise.tuning.record import TuneRecord
from layerwise.tuning.results import INITIAL, RECORD
from layerwise.tuning.run import FREE

#: Settings that two runs of a pair may differ in: one condition's own, and what changes no weight.
_OWN = FREE | CONDITIONS[STANDARD].reads | CONDITIONS[EQUAL_STEP].reads


@dataclass(frozen=True)
class _FinishedRun:
    """A finished run: its folder and its record."""

    folder: Path
    record: TuneRecord

    @property
    def base(self) -> str:
        """Return where the model that it started from lies: beside the result if it was random."""
        initial, model = self.folder / INITIAL, self.record.model
        if initial.is_dir():
            return str(initial)
        return f"{model.source}@{model.revision}" if model.revision else model.source


_RunPair = tuple[_FinishedRun, _FinishedRun]


def control_from_runs(
    pairs: Sequence[tuple[Path, Path]],
    *,
    reading: ProbeReading,
    loading: Mapping[str, Any],
    share: float = SHARE,
    progress: Progress = silent,
) -> Control:
    """Profile and judge finished runs, each pair a standard and an equal-step run of one seed.

    Each model is loaded as `loading` says, shown the probes and let go, one at a time; a base that
    pairs share is read once. `share` is as for `layerwise.profile.verdict.judge`.

    Raises:
        SchemaError: A folder holds no run, or its weights are not those that its record names.
        BadInputError: The runs of a pair, or two pairs, are not of one experiment; says which key
            differs.
        ModelError: A model, or the base that a run names, cannot be loaded.
    """
    finished = [_read_runs(*folders) for folders in pairs]
    seeds = [standard.record.settings.seed for standard, _ in finished]
    if not seeds or len(set(seeds)) < len(seeds):
        message, expected = "seeds of the runs", "one or more pairs, each of another seed"
        raise BadInputError(message, value=",".join(map(str, seeds)), expected=expected)
    for other, _ in finished[1:]:
        _refuse_difference(finished[0][0], other, of_pair=False)
    bases: dict[str, States] = {}
    runs = []
    for standard, equal_step in finished:
        if standard.base not in bases:
            loaded = _load_base(standard, loading)
            bases[standard.base] = reading.states(loaded, title="probes before", progress=progress)
            del loaded
        profiles = []
        for run in (standard, equal_step):
            loaded = _load_result(run, loading)
            title = f"probes after {run.record.condition}, seed {run.record.settings.seed}"
            after = reading.states(loaded, title=title, progress=progress)
            provenance = collect(device=str(loaded.device))
            profiles.append(reading.profile(bases[standard.base], after, provenance=provenance))
            del loaded
        runs.append(pair_runs((standard.record, equal_step.record), (profiles[0], profiles[1])))
    return judge(
        runs,
        provenance=collect(device=loading.get("device", "auto")),
        share=share,
        data=finished[0][0].record.data,
        notes=[note for pair in finished for run in pair for note in run.record.notes],
    )


def _read_runs(standard: Path, equal_step: Path) -> _RunPair:
    """Read the records of a pair."""
    runs = []
    for folder, condition in ((standard, STANDARD), (equal_step, EQUAL_STEP)):
        record = TuneRecord.load(folder)
        if record.condition != condition:
            message = f"{condition} run of another condition: {folder}"
            hint = "--runs STANDARD EQUAL_STEP, in this order"
            raise BadInputError(message, value=record.condition, expected=condition, hint=hint)
        runs.append(_FinishedRun(folder if folder.is_dir() else folder.parent, record))
    first, second = runs
    _refuse_difference(first, second, of_pair=True)
    return first, second


def _keys(run: _FinishedRun, *, of_pair: bool) -> dict[str, Any]:
    """Return what runs of a control, or of a pair, must have in common; files by their hash."""
    record = run.record
    initial = {f.name: sha256(f) for f in sorted((run.folder / INITIAL).glob("*.safetensors"))}
    keys = {
        "model": initial or dict(record.model.files) or record.model.source,
        "revision": record.model.revision,
        "data": record.data.sha256,
        "objective": record.data.objective,
        "max_length": record.data.max_length,
        "steps": record.settings.steps,
    }
    if of_pair:
        own = {k: v for k, v in to_plain(record.settings).items() if k not in _OWN}
        return keys | own | {"processes": record.outcome.processes}
    if initial:
        del keys["model"]  # Each seed drew its own start.
    return keys


def _refuse_difference(first: _FinishedRun, second: _FinishedRun, *, of_pair: bool) -> None:
    one, other = _keys(first, of_pair=of_pair), _keys(second, of_pair=of_pair)
    differ = [key for key in one if one[key] != other.get(key)]
    if differ:
        shown, wanted = (
            {"model": run.record.model.source, "data": run.record.data.source}.get(
                differ[0], str(keys.get(differ[0]))
            )
            for run, keys in ((second, other), (first, one))
        )
        message = f"runs of a control that differ in {', '.join(differ)}: {second.folder} has"
        hint = "layerwise tune with the same options but the condition"
        expected = f"{wanted}, as in {first.folder}"
        raise BadInputError(message, value=shown, expected=expected, hint=hint)


def _load_base(run: _FinishedRun, loading: Mapping[str, Any]) -> LoadedModel:
    """Load the model that `run` started from."""
    try:
        loaded = load(run.base, **loading)
    except ModelError as error:
        message = f"model that {run.folder / RECORD} started from ({error.what})"
        hint = error.hint or "put it back, or run the control anew"
        raise ModelError(message, value=run.base, expected=error.expected, hint=hint) from error
    if not (run.folder / INITIAL).is_dir():
        what = "model that is not what the runs started from"
        _refuse_other_files(loaded, run.record.model.files, what=what)
    return loaded


def _load_result(run: _FinishedRun, loading: Mapping[str, Any]) -> LoadedModel:
    """Load the model that `run` ended with."""
    if not run.record.files:
        message = "run whose weights were not kept"
        hint = "layerwise tune, or layerwise control --keep-weights"
        raise SchemaError(message, value=run.folder, expected="a folder with weights", hint=hint)
    loaded = load(str(run.folder), **loading)
    what = "run whose files are not those of its record"
    _refuse_other_files(loaded, run.record.files, what=what)
    return replace(loaded, notes=tuple(n for n in loaded.notes if n not in run.record.notes))


def _refuse_other_files(loaded: LoadedModel, files: Mapping[str, str], *, what: str) -> None:
    changed = [n for n, digest in loaded.files.items() if files.get(n, digest) != digest]
    if changed:
        value, expected = f"{changed[0]} in {loaded.source}", f"SHA-256 {files[changed[0]][:12]}…"
        raise SchemaError(what, value=value, expected=expected, hint="the same file, or a new run")
