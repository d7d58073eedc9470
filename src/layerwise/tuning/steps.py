"""The optimizer steps of a run, by transformers' Trainer."""

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from layerwise import distributed
from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.capture.restore import trainable
from layerwise.compat.torch import arrays_of_any_numpy
from layerwise.compat.transformers import checkpointing, precision_kept
from layerwise.errors import SchemaError
from layerwise.models.reading import quiet
from layerwise.seeds import derive
from layerwise.tuning.checkpoints import Checkpoint, Checkpoints
from layerwise.tuning.finite import refuse
from layerwise.tuning.meter import StepMeter, adapter_factors
from layerwise.tuning.outcome import outcome
from layerwise.tuning.record import TuneOutcome
from layerwise.tuning.shallow import ShallowBackward
from layerwise.tuning.steplog import Entry, StepLog, read_log
from layerwise.tuning.trainer import ForwardTrainer, Job

#: Where a run's log and checkpoints go in its folder.
LOG, CHECKPOINTS = "log.jsonl", "checkpoints"


@dataclass(frozen=True)
class Persistence:
    """What becomes of a run on its way.

    Attributes:
        folder: Where the log and the checkpoints go; None keeps neither.
        resume: Whether to go on from the last checkpoint in `folder`, if there is one.
        on_step: Called with each line of the log as it comes.
    """

    folder: Path | None = None
    resume: bool = False
    on_step: Callable[[Entry], None] = lambda _: None


def run_steps(
    job: Job,
    keep: Persistence | None = None,
    checkpoints: Checkpoints | None = None,
    last: Checkpoint | None = None,
) -> tuple[list[Entry], TuneOutcome, tuple[str, ...]]:
    """Train `job`'s model in place; return the log, a summary, and what the objective changed.

    It goes on from `last`, where there is one; nothing is kept without `keep` and `checkpoints`.

    Raises:
        NonFiniteError: A loss, gradient or weight is NaN or infinite; names the layer group.
        OutputError: A checkpoint or the log cannot be written.
        BadInputError: Gradient checkpointing is asked of a model that cannot do it.
    """
    model, keep = job.loaded.model, keep or Persistence()
    device = job.loaded.device
    with (
        quiet(),
        precision_kept(),
        arrays_of_any_numpy(),
        # Trainer and trackers want a folder to write to, even where nothing is to be kept.
        nullcontext(keep.folder) if keep.folder else tempfile.TemporaryDirectory() as output,
        job.objective.prepare(model) as changed,
        trainable(model, job.factors),
    ):
        trainer = ForwardTrainer(
            job=job,
            checkpoints=checkpoints,
            callbacks=[ShallowBackward()],
            args=_arguments(job, Path(output), is_resumed=last is not None),
            train_dataset=job.material.forwards(
                job.settings, steps=job.settings.steps, processes=distributed.world_size()
            ),
            eval_dataset=job.material.evaluation(job.settings),
        )
        trainer.remove_callback(PrinterCallback)
        steplog = StepLog(
            norms=lambda: trainer.group_norms,
            meter=StepMeter(adapter_factors(model, job.groups)),
            file=keep.folder / LOG if keep.folder else None,
            entries=_former(keep, last),
            on_step=keep.on_step,
            every=job.settings.log_every,
        )
        trainer.add_callback(steplog)
        reset_peak_memory(device)
        began = time.perf_counter()
        trainer.train(resume_from_checkpoint=str(last.folder) if last else None)
        seconds = steplog.seconds_before + time.perf_counter() - began
        _refuse_bad_weights(job)
        if job.settings.eval_examples and "eval_loss" not in steplog.entries[-1]:
            trainer.evaluate()
    made = outcome(
        job.settings,
        steplog.entries,
        examples=len(job.material.train),
        rows=job.material.rows,
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes(device),
        processes=distributed.world_size(),
        resumed_from=last.step if last else None,
    )
    return steplog.entries, made, tuple(changed)


def _refuse_bad_weights(job: Job) -> None:
    """Refuse the last step's weights, which no loss has seen, unless they are finite."""
    parameters: Mapping[str, nn.Parameter] = dict(job.loaded.model.named_parameters())
    for group in job.groups:
        trained = [parameters[n] for n in group.parameters if n in job.factors]
        if not all(bool(p.isfinite().all()) for p in trained):
            refuse("weight", group.name, step=job.settings.steps)


def _former(keep: Persistence, last: Checkpoint | None) -> list[Entry]:
    """Return the log up to the checkpoint that the run goes on from."""
    if keep.folder is None or last is None:
        return []
    entries = read_log(keep.folder / LOG, until=last.step)
    if not any("loss" in entry for entry in entries):
        hint = "run again without --resume"
        message = "unfinished run without its log"
        raise SchemaError(message, value=keep.folder / LOG, expected="a line a step", hint=hint)
    return entries


def _arguments(job: Job, output: Path, *, is_resumed: bool) -> TrainingArguments:
    settings = job.settings
    device = job.loaded.device
    arguments = TrainingArguments(
        output_dir=str(output),
        max_steps=settings.steps,
        per_device_train_batch_size=1,  # An item of the data is a whole forward.
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=settings.max_grad_norm,
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # It would log 0.0 for a loss that is not a number.
        save_strategy="steps" if settings.save_every else "no",
        save_steps=settings.save_every or 1,
        eval_strategy="steps" if settings.eval_every and settings.eval_examples else "no",
        eval_steps=settings.eval_every or None,
        eval_on_start=bool(settings.eval_examples) and not is_resumed,
        bf16=settings.bf16,
        **checkpointing(wanted=settings.gradient_checkpointing),
        ddp_find_unused_parameters=True,  # A loss may leave out the head, or a part of it.
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
        use_cpu=device.type == "cpu",
        report_to=settings.track or "none",
        seed=derive(settings.seed, "trainer") % 2**32,
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:  # One process would take the first GPU, and spread over all.
        arguments._n_gpu = 1
        vars(arguments)["_setup_devices"] = device
        torch.cuda.set_device(device)
    return arguments
