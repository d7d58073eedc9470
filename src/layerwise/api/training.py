"""Fine-tuning, once, twice or by rivals, from what a user names."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from layerwise.api.named import SMALLER, known_card, loaded_model, text_data
from layerwise.errors import BadInputError, OutputError
from layerwise.files import prepare_output
from layerwise.options.commands import ControlOptions, FinishedOptions, MeasureOptions, TuneOptions
from layerwise.options.declaration import pick
from layerwise.options.groups import (
    Conditions,
    Device,
    FittedBatches,
    Loading,
    Packing,
    Steps,
    Views,
    Watching,
)
from layerwise.options.signature import takes_options
from layerwise.progress import Progress, silent
from layerwise.resources import enough_memory

if TYPE_CHECKING:
    from layerwise.card.record import LayerCard
    from layerwise.measure.record import Measure
    from layerwise.models.load import LoadedModel
    from layerwise.profile.probe_reading import ProbeReading
    from layerwise.profile.record import Control
    from layerwise.tuning.run import Tuned

OnRun = Callable[[str, int], AbstractContextManager[Callable[[dict[str, Any]], None]]]


@takes_options
def tune(
    model: Any,
    data: Any,
    *,
    tokenizer: Any = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    **options: Unpack[TuneOptions],
) -> "Tuned":
    """Return `model` after fine-tuning on `data`: `.loaded`, `.record` and `.log`.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``. Or a model in hand,
            which is then changed in place: a `LoadedModel`, a transformers model, or a `PeftModel`
            with LoRA adapters, which are what trains then.
        data: A file, folder, hub data set or ``demo``; or strings, mappings, a data set, a frame or
            a loader of batches in hand; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        on_step: Called with each line of the log as it comes.
        options: Those of `layerwise.options.commands.TuneOptions`. Without ``out`` nothing is kept;
            with ``from_config`` the folder gets the random weights too, as ``initial``, so that
            before and after can be compared.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        NonFiniteError: A loss or gradient is NaN or infinite; the last checkpoint stays.
        OutputError: `out` holds a result, or cannot be written.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.models.linear import packed_modules
    from layerwise.objectives import labels_for, resolve
    from layerwise.tuning.adapters import has_adapters
    from layerwise.tuning.lora import named_placement
    from layerwise.tuning.record import TuneSettings
    from layerwise.tuning.results import save
    from layerwise.tuning.run import fine_tune, usual_condition
    from layerwise.tuning.steps import Persistence

    folder = None if options["out"] is None else Path(options["out"])
    if folder is not None:
        _prepare(folder, resume=options["resume"], overwrite=options["overwrite"])
    text = text_data(data, options)
    labels = labels_for(options["objective"], text)
    if options["from_config"] is not None:
        loaded = _blank(Path(options["from_config"]), model, folder, options, labels)
    else:
        loaded = loaded_model(model, tokenizer, options, labels=labels)
    placement = named_placement(options["placement"], loaded)
    adapters = has_adapters(loaded.model) or bool(packed_modules(loaded.model))
    with enough_memory(SMALLER):
        tuned = fine_tune(
            loaded,
            text,
            resolve(options["objective"], loaded=loaded, data=text),
            condition=options["condition"] or usual_condition(placement, adapters=adapters),
            settings=TuneSettings(**pick(TuneSettings, options)),
            placement=placement,
            keep=Persistence(folder, options["resume"], on_step or (lambda _: None)),
        )
    return tuned if folder is None else save(tuned, folder)


def _prepare(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make sure that `folder` can be written, and that nothing is lost that was not given up."""
    from layerwise.tuning.results import RECORD
    from layerwise.tuning.run import has_checkpoint

    if resume and not overwrite and (folder / RECORD).exists():
        msg = "run that is finished already"
        expected = "an unfinished one"
        hint = "--overwrite to run it again; for more steps tune its result, with another --out"
        raise OutputError(msg, value=folder, expected=expected, hint=hint)
    prepare_output(folder, holds=RECORD, overwrite=overwrite)
    if has_checkpoint(folder) and not (resume or overwrite):
        msg = "output folder holds checkpoints of an unfinished run"
        hint = "--resume to go on, --overwrite to begin again, or another --out FOLDER"
        raise OutputError(msg, value=folder, expected="an empty folder", hint=hint)


def _blank(
    file: Path,
    tokenizer: Any,
    folder: Path | None,
    options: Mapping[str, Any],
    labels: tuple[str, ...] | None,
) -> "LoadedModel":
    """Return a model with random weights, kept in `folder` if there is one."""
    from layerwise.models.load import from_config
    from layerwise.tuning.results import keep_initial

    if not isinstance(tokenizer, str):
        msg = "model in hand, and a configuration of another one"
        expected = "the name of a tokenizer"
        raise BadInputError(msg, value=type(tokenizer).__name__, expected=expected)
    if options["quantize"] is not None:
        msg = "quantisation of random weights, which have to be trained whole"
        raise BadInputError(msg, value=options["quantize"], hint="drop --quantize")
    how = {**pick(Device, options), "seed": options["seed"]}
    loaded = from_config(file, tokenizer=tokenizer, labels=labels, **how)
    return loaded if folder is None else keep_initial(loaded, folder)


@takes_options
def control(
    model: Any,
    data: Any,
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
        data: A file, folder, hub data set or ``demo``; or strings, mappings, a data set, a frame or
            a loader of batches in hand; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        on_run: ``on_run(condition, seed)`` is entered around each run, and what it gives called
            with each line of the run's log.
        progress: Hears how far each reading of the probes is.
        options: Those of `layerwise.options.commands.ControlOptions`. ``out`` gets
            ``runs/CONDITION-SEED``, each with ``tune.json`` and ``log.jsonl``; without it none is
            kept. ``tau`` None is matched to each seed's standard run, as ``match`` says.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        NonFiniteError: A loss, gradient or weight is NaN or infinite.
        OutputError: `out` holds such a run, or cannot be written.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.objectives import labels_for, resolve
    from layerwise.profile.control import ControlPlan, RunStorage, no_watch, run_control
    from layerwise.tuning.record import TuneSettings

    reading, text = _reading(options), text_data(data, options)
    labels = labels_for(options["objective"], text)
    loaded = loaded_model(model, tokenizer, options, labels=labels)
    keep = RunStorage(
        folder=None if options["out"] is None else Path(options["out"]),
        weights=options["keep_weights"],
        overwrite=options["overwrite"],
        watch=on_run or no_watch,
    )
    groups = (
        FittedBatches,
        Packing,
        Steps,
        Conditions,
        Watching,
    )  # The runs' seeds are the control's.
    how = {name: value for group in groups for name, value in pick(group, options).items()}
    with enough_memory(SMALLER):
        return run_control(
            loaded,
            text,
            resolve(options["objective"], loaded=loaded, data=text),
            reading=reading,
            settings=TuneSettings(**pick(TuneSettings, how)),
            plan=ControlPlan(options["seeds"], options["share"], options["match"]),
            keep=keep,
            progress=progress,
        )


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
            share=options["share"],
            progress=progress,
        )


def _reading(options: Mapping[str, Any]) -> "ProbeReading":
    """Return how the profiles are taken."""
    from layerwise.profile.probe_reading import make_reading

    return make_reading(**pick(Views, options), probes=options["probes"], seed=options["seed"])


@takes_options
def measure(
    model: Any,
    data: Any,
    *,
    tokenizer: Any = None,
    kept: Path | str | None = None,
    progress: Progress = silent,
    **options: Unpack[MeasureOptions],
) -> "Measure":
    """Fine-tune rival placements of `model` on `data` at an equal budget; return a leaderboard.

    Every arm has adapters of the same number of parameters, makes the same steps on the same
    batches, and has chosen its learning rate from the same ladder, on text and a seed that score
    nobody. `all`, adapters of the full rank on all blocks, is larger: what the others keep of it
    is told.

    Args:
        model: A hub id, folder, GGUF file or ``demo``. Or a model in hand, which is after what it
            was before: a `LoadedModel` or a transformers model.
        data: A file, folder, hub data set or ``demo``; or strings, mappings, a data set, a frame or
            a loader of batches in hand; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        kept: A file that each trial goes into as it ends; those that it holds are not made again,
            so that a measurement that was cut short goes on where it was.
        progress: Hears how far the trials are.
        options: Those of `layerwise.options.commands.MeasureOptions`.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        SchemaError: The card is of another model.
        NonFiniteError: The recommended placement diverged.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.measure.quality import named_quality
    from layerwise.measure.run import Protocol, run_measure
    from layerwise.objectives import labels_for, resolve
    from layerwise.tuning.record import TuneSettings

    budget = pick(FittedBatches, options) | pick(Steps, options)
    settings = TuneSettings(**pick(TuneSettings, budget))
    card = options["card"]
    known = None if card is None else known_card(card)
    text = text_data(data, options)
    labels = labels_for(options["objective"], text)
    loaded = loaded_model(model, tokenizer, options, labels=labels)
    loss = resolve(options["objective"], loaded=loaded, data=text)
    better = named_quality(options["quality"], loss, settings, limit=options["limit"])
    protocol = Protocol(**pick(Protocol, options))
    with enough_memory(SMALLER):
        return run_measure(
            loaded,
            text,
            loss,
            settings,
            protocol,
            card=known,
            quality=better,
            kept=None if kept is None else Path(kept),
            progress=progress,
        )


def measured(card: "LayerCard", made: "Measure") -> "LayerCard":
    """Return `card` with what `made` found as its measured performance, by regime.

    Raises:
        SchemaError: The measurement is of another model.
    """
    from layerwise.measure.card_results import with_measured

    return with_measured(card, made)
