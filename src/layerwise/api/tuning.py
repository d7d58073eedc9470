"""Fine-tuning, from what a user names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from layerwise.api.named import SMALLER, enough_memory, loaded_model, text_data
from layerwise.errors import BadInputError, OutputError
from layerwise.files import prepare_output
from layerwise.options.commands import TuneOptions
from layerwise.options.declaration import pick
from layerwise.options.groups import Device, Settings
from layerwise.options.signature import takes_options

if TYPE_CHECKING:
    from layerwise.data.text import TextData
    from layerwise.models.load import LoadedModel
    from layerwise.tuning.run import Tuned

__all__ = ["tune"]


@takes_options
def tune(
    model: Any,
    data: "str | TextData",
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
        data: A file, folder, hub data set or ``demo``; or text read before.
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
    from layerwise.objectives import labels_for, resolve
    from layerwise.tuning.adapters import has_adapters
    from layerwise.tuning.lora import named_placement
    from layerwise.tuning.record import TuneSettings
    from layerwise.tuning.results import save
    from layerwise.tuning.run import fine_tune
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
    placement = options["placement"]
    is_lora = placement is not None or has_adapters(loaded.model)
    with enough_memory(SMALLER):
        tuned = fine_tune(
            loaded,
            text,
            resolve(options["objective"], loaded=loaded, data=text),
            condition=options["condition"] or ("lora" if is_lora else "standard"),
            settings=TuneSettings(**pick(Settings, options)),
            placement=named_placement(placement, loaded),
            keep=Persistence(folder, options["resume"], on_step or (lambda _: None)),
        )
    return tuned if folder is None else save(tuned, folder)


def _prepare(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make sure that `folder` can be written, and that nothing is lost that was not given up.

    Raises:
        OutputError: Otherwise.
    """
    from layerwise.tuning.results import RECORD
    from layerwise.tuning.run import has_checkpoint

    if resume and not overwrite and (folder / RECORD).exists():
        msg = "run that is finished already"
        expected = "an unfinished one"
        raise OutputError(msg, value=folder, expected=expected, hint="--overwrite to run it again")
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
    how = {**pick(Device, options), "seed": options["seed"]}
    loaded = from_config(file, tokenizer=tokenizer, labels=labels, **how)
    return loaded if folder is None else keep_initial(loaded, folder)
