"""Standard against equal-step, from what a user names."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.api.named import (
    SMALLER,
    enough_memory,
    loaded_model,
    text_data,
)
from layerwise.data import TextData
from layerwise.objectives import labels_for, resolve
from layerwise.profile.record import Control
from layerwise.progress import Progress, silent
from layerwise.tuning.record import tune_settings

if TYPE_CHECKING:
    from layerwise.profile.probe_reading import ProbeReading

__all__ = ["control", "control_from_runs"]

#: Settings that a control decides itself: seeds are its own, each step is logged, and no run of it
#: goes on from a checkpoint or trains a part of the blocks.
_OWN = frozenset({"seed", "log_every", "save_every", "top"})

OnRun = Callable[[str, int], AbstractContextManager[Callable[[dict[str, Any]], None]]]


def control(  # noqa: PLR0913  # one keyword for each thing that a user may choose
    model: Any,
    data: str | TextData,
    *,
    seeds: Sequence[int] = (0,),
    tokenizer: Any = None,
    objective: str = "auto",
    probes: str | TextData | Sequence[str] | None = None,
    readout: str = "hf",
    stack: str | None = None,
    out: Path | str | None = None,
    keep_weights: bool = False,
    overwrite: bool = False,
    examples: int | None = None,
    text_column: str | None = None,
    prompt_column: str | None = None,
    label_column: str | None = None,
    where: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    on_run: OnRun | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> Control:
    """Whether the shape of what fine-tuning moves is the model's or the optimizer's.

    For each seed, `model` is fine-tuned twice from the same weights on the same batches: under the
    standard condition, and with every layer group making relative steps of the same size. Both are
    profiled. A slope that stays is intrinsic, one that goes is a gradient artefact.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``. Or a model in hand: a
            `LoadedModel` or a transformers model; its weights are put back after.
        data: A file, folder, hub data set or ``demo``; or text read before.
        seeds: Of the data order, masks and dropout; a pair of runs each.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        objective: The loss; ``auto`` takes the one that the model's head and the columns call for.
        probes: What the models are shown: texts, or where they are; the package's own where None.
        readout: Which tensor stands for a depth: ``hf``, ``residual`` or ``normed``.
        stack: The stack of blocks to follow; the last that reads text where None.
        out: A folder for ``runs/CONDITION-SEED``, each with ``tune.json`` and ``log.jsonl``; None
            keeps none.
        keep_weights: Whether the fine-tuned models stay in `out` too.
        overwrite: Replace runs that `out` holds.
        examples: How many examples to draw from `data`; None takes all.
        text_column: The column that holds the text; found by its name where None.
        prompt_column: The column of what precedes the text, outside the loss.
        label_column: The column of the class.
        where: ``COLUMN=VALUE`` conditions on the rows that are read.
        seed: Fixes the examples that are drawn, a head that is added and the bootstrap.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: Whether code that a model's repository brings may run.
        on_run: ``on_run(condition, seed)`` is entered around each run, and what it gives called
            with each line of the run's log.
        progress: Hears how far each reading of the probes is.
        settings: Fields of `TuneSettings`: ``steps``, ``learning_rate``, ``batch_size``, ``tau``
            and the rest; ``tau`` None is matched to each seed's standard run.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        NonFiniteError: A loss, gradient or weight is NaN or infinite.
        OutputError: `out` holds such a run, or cannot be written.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.profile.control import RunStorage, no_watch, run_control

    chosen = tune_settings(settings, without=_OWN)
    reading = _reading(probes, readout, stack, seed=seed)
    text = text_data(
        data,
        text_column=text_column,
        prompt_column=prompt_column,
        label_column=label_column,
        where=where,
        examples=examples,
        seed=seed,
    )
    loaded = loaded_model(
        model,
        tokenizer,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        labels=labels_for(objective, text),
        seed=seed,
    )
    keep = RunStorage(
        folder=None if out is None else Path(out),
        weights=keep_weights,
        overwrite=overwrite,
        watch=on_run or no_watch,
    )
    with enough_memory(SMALLER):
        return run_control(
            loaded,
            text,
            resolve(objective, loaded=loaded, data=text),
            reading=reading,
            settings=chosen,
            seeds=tuple(seeds),
            keep=keep,
            progress=progress,
        )


def control_from_runs(
    *pairs: tuple[Path | str, Path | str],
    probes: str | TextData | Sequence[str] | None = None,
    readout: str = "hf",
    stack: str | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Control:
    """The control of runs that are over, each pair a standard and an equal-step run of one seed.

    Args:
        pairs: Folders of `tune`, the standard run's and the equal-step run's.
        probes: As for `control`; the others too.
        readout: Which tensor stands for a depth.
        stack: The stack of blocks to follow.
        seed: Fixes the bootstrap.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: Whether code that a model's repository brings may run.
        progress: Hears how far each reading of the probes is.

    Raises:
        SchemaError: A folder holds no run, or not the files of its record.
        BadInputError: The runs are not of one experiment; says which key differs.
        ModelError: A model cannot be loaded.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.profile.control_from_runs import ModelLoader
    from layerwise.profile.control_from_runs import control_from_runs as judge

    with enough_memory(SMALLER):
        return judge(
            [(Path(standard), Path(equal_step)) for standard, equal_step in pairs],
            reading=_reading(probes, readout, stack, seed=seed),
            loading=ModelLoader(device, dtype, trust_remote_code),
            progress=progress,
        )


def _reading(
    probes: str | TextData | Sequence[str] | None, readout: str, stack: str | None, *, seed: int
) -> "ProbeReading":
    """How the profiles are taken.

    Raises:
        UnknownNameError: There is no such readout.
        DataError: The probes cannot be read, or are too few.
    """
    from layerwise.profile.probe_reading import make_reading

    return make_reading(probes=probes, readout=readout, stack=stack, seed=seed)
