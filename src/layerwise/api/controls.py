"""Standard against equal-step, from what a user names."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from layerwise.api.named import (
    SMALLER,
    enough_memory,
    loaded_model,
    text_data,
)
from layerwise.options.commands import ControlOptions, FinishedOptions
from layerwise.options.declaration import pick
from layerwise.options.groups import Batches, Conditions, Loading, Steps, Watching
from layerwise.options.signature import takes_options
from layerwise.progress import Progress, silent

if TYPE_CHECKING:
    from layerwise.data.text import TextData
    from layerwise.profile.probe_reading import ProbeReading
    from layerwise.profile.record import Control
    from layerwise.tuning.record import TuneSettings

__all__ = ["control", "control_from_runs"]

OnRun = Callable[[str, int], AbstractContextManager[Callable[[dict[str, Any]], None]]]


@takes_options
def control(
    model: Any,
    data: "str | TextData",
    *,
    tokenizer: Any = None,
    on_run: OnRun | None = None,
    progress: Progress = silent,
    **options: Unpack[ControlOptions],
) -> "Control":
    """Return whether the shape of what fine-tuning moves is the model's or the optimizer's.

    For each seed, `model` is fine-tuned twice from the same weights on the same batches: under the
    standard condition, and with every layer group making relative steps of the same size. Both are
    profiled. A slope that stays is intrinsic, one that goes is a gradient artefact.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``. Or a model in hand: a
            `LoadedModel` or a transformers model; its weights are put back after.
        data: A file, folder, hub data set or ``demo``; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        on_run: ``on_run(condition, seed)`` is entered around each run, and what it gives called
            with each line of the run's log.
        progress: Hears how far each reading of the probes is.
        options: Those of `layerwise.options.commands.ControlOptions`. ``out`` gets
            ``runs/CONDITION-SEED``, each with ``tune.json`` and ``log.jsonl``; without it none is
            kept. ``tau`` None is matched to each seed's standard run.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        NonFiniteError: A loss, gradient or weight is NaN or infinite.
        OutputError: `out` holds such a run, or cannot be written.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.objectives import labels_for, resolve
    from layerwise.profile.control import RunStorage, no_watch, run_control

    reading, text = _reading(options), text_data(data, options)
    labels = labels_for(options["objective"], text)
    loaded = loaded_model(model, tokenizer, options, labels=labels)
    keep = RunStorage(
        folder=None if options["out"] is None else Path(options["out"]),
        weights=options["keep_weights"],
        overwrite=options["overwrite"],
        watch=on_run or no_watch,
    )
    with enough_memory(SMALLER):
        return run_control(
            loaded,
            text,
            resolve(options["objective"], loaded=loaded, data=text),
            reading=reading,
            settings=_settings(options),
            seeds=tuple(options["seeds"]),
            keep=keep,
            progress=progress,
        )


def _settings(options: Mapping[str, Any]) -> "TuneSettings":
    """Return how the runs are optimised; their seeds are the control's."""
    from layerwise.tuning.record import TuneSettings

    groups = (Batches, Steps, Conditions, Watching)
    return TuneSettings(**{k: v for group in groups for k, v in pick(group, options).items()})


@takes_options
def control_from_runs(
    *pairs: tuple[Path | str, Path | str],
    progress: Progress = silent,
    **options: Unpack[FinishedOptions],
) -> "Control":
    """Return the control of runs that are over, each pair a standard and an equal-step run.

    Args:
        pairs: Folders of `tune`, the standard run's and the equal-step run's of one seed.
        progress: Hears how far each reading of the probes is.
        options: Those of `layerwise.options.commands.FinishedOptions`.

    Raises:
        SchemaError: A folder holds no run, or not the files of its record.
        BadInputError: The runs are not of one experiment; says which key differs.
        ModelError: A model cannot be loaded.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.profile.control_from_runs import control_from_runs as judge

    with enough_memory(SMALLER):
        return judge(
            [(Path(standard), Path(equal_step)) for standard, equal_step in pairs],
            reading=_reading(options),
            loading=pick(Loading, options),
            progress=progress,
        )


def _reading(options: Mapping[str, Any]) -> "ProbeReading":
    """Return how the profiles are taken.

    Raises:
        DataError: The probes cannot be read, or are too few.
    """
    from layerwise.profile.probe_reading import make_reading

    return make_reading(**{k: options[k] for k in ("probes", "readout", "stack", "seed")})
