"""The optimizer steps of a run, by transformers' Trainer."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from layerwise import distributed
from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.capture.restore import trainable
from layerwise.compat import checkpointing
from layerwise.errors import SchemaError
from layerwise.models.load import LoadedModel
from layerwise.models.reading import quiet
from layerwise.objectives import Objective
from layerwise.seeds import derive
from layerwise.tuning.checkpoints import Checkpoint, Checkpoints
from layerwise.tuning.finite import refuse
from layerwise.tuning.groups import LayerGroup
from layerwise.tuning.material import Material
from layerwise.tuning.meter import AdapterMeter, WeightMeter, adapter_factors
from layerwise.tuning.optimizer import optimizer_factory
from layerwise.tuning.outcome import outcome
from layerwise.tuning.record import TuneOutcome, TuneSettings
from layerwise.tuning.shallow import ShallowBackward
from layerwise.tuning.steplog import Entry, StepLog, read_log
from layerwise.tuning.trainer import ForwardTrainer

__all__ = ["Job", "LoopResult", "Track", "run_steps"]


@dataclass(frozen=True)
class Job:
    """What is trained, on what, and how: all that a run of steps needs.

    Attributes:
        loaded: The model, with adapters if it is they that train.
        objective: The loss.
        material: The data.
        groups: The layer groups of the model.
        settings: How it is optimised.
        factors: The learning rate factor of each parameter that trains.
        method: How steps are measured.
        tau: The relative step of every group; None where the optimizer decides.
    """

    loaded: LoadedModel
    objective: Objective
    material: Material
    groups: tuple[LayerGroup, ...]
    settings: TuneSettings
    factors: Mapping[str, float]
    method: str
    tau: float | None = None


@dataclass(frozen=True)
class Track:
    """What is kept of a run on its way.

    Attributes:
        on_step: Called with each line of the log.
        log: The file of the log; None keeps none.
        checkpoints: Where checkpoints are kept; None keeps none.
        last: The checkpoint to go on from.
    """

    on_step: Any
    log: Path | None = None
    checkpoints: Checkpoints | None = None
    last: Checkpoint | None = None


@dataclass(frozen=True)
class LoopResult:
    """How a run of steps went: its log, a summary, and what the objective changed meanwhile."""

    entries: list[Entry]
    outcome: TuneOutcome
    notes: tuple[str, ...]


def run_steps(job: Job, track: Track) -> LoopResult:
    """Train `job`'s model in place.

    Raises:
        NonFiniteError: A loss, gradient or weight is NaN or infinite; names the layer group.
        OutputError: A checkpoint or the log cannot be written.
        BadInputError: Gradient checkpointing is asked of a model that cannot do it.
    """
    model = job.loaded.model
    device = next(model.parameters()).device
    with (
        quiet(),
        _output(track) as output,
        job.objective.prepare(model) as changed,
        trainable(model, job.factors),
    ):
        trainer = _trainer(job, track, output)
        steplog = _steplog(job, track, trainer)
        reset_peak_memory(device)
        began = time.perf_counter()
        trainer.train(resume_from_checkpoint=str(track.last.folder) if track.last else None)
        seconds = steplog.seconds_before + time.perf_counter() - began
        _refuse_bad_weights(job)
        if job.settings.eval_examples and "eval_loss" not in steplog.entries[-1]:
            trainer.evaluate()
    made = outcome(
        job.settings,
        steplog.entries,
        examples=len(job.material.train),
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes(device),
        processes=distributed.world_size(),
        resumed_from=track.last.step if track.last else None,
    )
    return LoopResult(steplog.entries, made, tuple(changed))


@contextmanager
def _output(track: Track) -> Iterator[Path]:
    """Give Trainer and trackers a folder to write to, even where nothing is to be kept."""
    if track.log is not None:
        yield track.log.parent
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def _refuse_bad_weights(job: Job) -> None:
    """Refuse the last step's weights, which no loss has seen, unless they are finite."""
    parameters: Mapping[str, nn.Parameter] = dict(job.loaded.model.named_parameters())
    for group in job.groups:
        trained = [parameters[n] for n in group.parameters if n in job.factors]
        if not all(bool(p.isfinite().all()) for p in trained):
            refuse("weight", group.name, step=job.settings.steps)


def _steplog(job: Job, track: Track, trainer: ForwardTrainer) -> StepLog:
    """Return the log of `trainer`'s run, going on from where the last checkpoint was made."""
    adapters = adapter_factors(job.loaded.model, job.groups)
    steplog = StepLog(
        norms=lambda: trainer.group_norms,
        meter=AdapterMeter(adapters) if adapters else WeightMeter(),
        file=track.log,
        entries=_former(track),
        on_step=track.on_step,
        every=job.settings.log_every,
    )
    trainer.add_callback(steplog)
    return steplog


def _former(track: Track) -> list[Entry]:
    """Return the log up to the checkpoint that the run goes on from."""
    if track.log is None or track.last is None:
        return []
    entries = read_log(track.log, until=track.last.step)
    if not any("loss" in entry for entry in entries):
        message = "unfinished run without its log"
        hint = "run again without --resume"
        raise SchemaError(message, value=track.log, expected="a line a step", hint=hint)
    return entries


def _trainer(job: Job, track: Track, output: Path) -> ForwardTrainer:
    settings = job.settings
    trainer = ForwardTrainer(
        loaded=job.loaded,
        objective=job.objective,
        layer_groups=job.groups,
        seed=settings.seed,
        checkpoints=track.checkpoints,
        args=_arguments(job, output, is_resumed=track.last is not None),
        train_dataset=job.material.forwards(
            settings, steps=settings.steps, processes=distributed.world_size()
        ),
        eval_dataset=job.material.evaluation(settings),
        optimizer_cls_and_kwargs=(optimizer_factory, _optimizer_options(job)),
        callbacks=[ShallowBackward()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _optimizer_options(job: Job) -> dict[str, Any]:
    return {
        "groups": job.groups,
        "factors": job.factors,
        "learning_rate": job.settings.learning_rate,
        "weight_decay": job.settings.weight_decay,
        "tau": job.tau,
        "method": job.method,
        "seed": job.settings.seed,
    }


def _arguments(job: Job, output: Path, *, is_resumed: bool) -> TrainingArguments:
    settings = job.settings
    device = next(job.loaded.model.parameters()).device
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
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
        use_cpu=device.type == "cpu",
        report_to=settings.track or "none",
        seed=derive(settings.seed, "trainer") % 2**32,
        disable_tqdm=True,
    )
    _stay_on(arguments, device)
    return arguments


def _stay_on(arguments: TrainingArguments, device: torch.device) -> None:
    """Let one process use `device` alone: it would take the first GPU, and spread over all."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
        vars(arguments)["_setup_devices"] = device
        torch.cuda.set_device(device)
