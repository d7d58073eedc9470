"""Fine-tuning, from what a user names."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.api.named import SMALLER, enough_memory, loaded_model, text_data
from layerwise.data import TextData
from layerwise.errors import BadInputError, OutputError
from layerwise.files import prepare_output
from layerwise.models.load import LoadedModel
from layerwise.models.load import from_config as blank
from layerwise.objectives import labels_for, resolve
from layerwise.placement.record import PlacedBlock, Placement
from layerwise.tuning.record import tune_settings

if TYPE_CHECKING:
    from layerwise.tuning.run import Tuned

__all__ = ["tune"]


def tune(  # noqa: PLR0913  # one keyword for each thing that a user may choose
    model: Any,
    data: str | TextData,
    *,
    tokenizer: Any = None,
    from_config: Path | str | None = None,
    condition: str | None = None,
    placement: Placement | Path | str | Sequence[int | PlacedBlock] | None = None,
    objective: str = "auto",
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    examples: int | None = None,
    text_column: str | None = None,
    prompt_column: str | None = None,
    label_column: str | None = None,
    where: Sequence[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    **settings: Any,
) -> "Tuned":
    """`model` after fine-tuning on `data` under a condition: `.loaded`, `.record` and `.log`.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``. Or a model in hand,
            which is then changed in place: a `LoadedModel`, a transformers model, or a `PeftModel`
            with LoRA adapters, which are what trains then.
        data: A file, folder, hub data set or ``demo``; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        from_config: A transformers configuration (JSON): train from random weights, drawn by the
            seed, with the tokenizer that `model` names. `out` gets them as ``initial``, so that
            before and after can be compared.
        condition: How it is optimised: ``standard``, ``uniform``, ``lora``, ``frozen-norm``,
            ``frozen-lower``, ``equal-step`` or ``top-m``. None takes ``lora`` where there is a
            placement, else ``standard``.
        placement: Where LoRA goes: a placement, the file that holds one, or blocks (``"3,7,11"``).
            All blocks where None.
        objective: The loss; ``auto`` takes the one that the model's head and the columns call for.
        out: A folder for the result, ``tune.json``, ``log.jsonl`` and checkpoints; None keeps none.
        resume: Go on from the last checkpoint in `out`, if there is one.
        overwrite: Replace a result that `out` holds.
        examples: How many examples to draw from `data`; None takes all.
        text_column: The column that holds the text; found by its name where None.
        prompt_column: The column of what precedes the text, outside the loss.
        label_column: The column of the class.
        where: ``COLUMN=VALUE`` conditions on the rows that are read.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: Whether code that a model's repository brings may run.
        on_step: Called with each line of the log as it comes.
        settings: Fields of `TuneSettings`: ``steps``, ``learning_rate``, ``batch_size``, ``seed``,
            ``tau`` and the rest.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        NonFiniteError: A loss or gradient is NaN or infinite; the last checkpoint stays.
        OutputError: `out` holds a result, or cannot be written.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.tuning.adapters import has_adapters
    from layerwise.tuning.lora import named_placement
    from layerwise.tuning.results import save
    from layerwise.tuning.run import Persistence, fine_tune

    chosen = tune_settings(settings)
    folder = Path(out) if out is not None else None
    if folder is not None:
        _prepare(folder, resume=resume, overwrite=overwrite)
    text = text_data(
        data,
        text_column=text_column,
        prompt_column=prompt_column,
        label_column=label_column,
        where=where,
        examples=examples,
        seed=chosen.seed,
    )
    how: dict[str, Any] = {"device": device, "dtype": dtype, "labels": labels_for(objective, text)}
    if from_config is not None:
        loaded = _blank(Path(from_config), model, folder, seed=chosen.seed, **how)
    else:
        how |= {"trust_remote_code": trust_remote_code, "seed": chosen.seed}
        loaded = loaded_model(model, tokenizer, **how)
    is_lora = placement is not None or has_adapters(loaded.model)
    with enough_memory(SMALLER):
        tuned = fine_tune(
            loaded,
            text,
            resolve(objective, loaded=loaded, data=text),
            condition=condition or ("lora" if is_lora else "standard"),
            settings=chosen,
            placement=named_placement(placement, loaded),
            keep=Persistence(folder, resume, on_step or (lambda _: None)),
        )
    return tuned if folder is None else save(tuned, folder)


def _prepare(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """`folder` can be written, and nothing in it would be lost that was not given up.

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


def _blank(file: Path, tokenizer: Any, folder: Path | None, **how: Any) -> LoadedModel:
    """A model with random weights, kept in `folder` if there is one."""
    from layerwise.tuning.results import keep_initial

    if not isinstance(tokenizer, str):
        msg = "model in hand, and a configuration of another one"
        expected = "the name of a tokenizer"
        raise BadInputError(msg, value=type(tokenizer).__name__, expected=expected)
    loaded = blank(file, tokenizer=tokenizer, **how)
    return loaded if folder is None else keep_initial(loaded, folder)
