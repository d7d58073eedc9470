"""A model, some text, an objective and a condition in; a fine-tuned model and its record out."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from layerwise import distributed
from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.card.describe import data_info, model_info
from layerwise.data.text import TextData
from layerwise.errors import BadInputError
from layerwise.models.load import LoadedModel
from layerwise.models.quiet import quiet
from layerwise.models.roles import roles
from layerwise.objectives import Objective
from layerwise.placement.record import Placement
from layerwise.provenance import collect
from layerwise.records import to_plain
from layerwise.seeds import derive, rng_untouched
from layerwise.tuning.checkpoints import Checkpoints
from layerwise.tuning.conditions import CONDITIONS, Condition, places
from layerwise.tuning.equal_step import match_tau
from layerwise.tuning.groups import LayerGroup, layer_groups
from layerwise.tuning.lora import adapted, placed_on, stop_at_lowest
from layerwise.tuning.material import Material, gather
from layerwise.tuning.optimizer import optimizer_factory
from layerwise.tuning.outcome import group_records, outcome
from layerwise.tuning.record import TuneRecord, TuneSettings
from layerwise.tuning.steplog import Entry, StepLog, read_log
from layerwise.tuning.trainer import ForwardTrainer

__all__ = ["CHECKPOINTS", "LOG", "Keep", "Tuned", "fine_tune"]

log = logging.getLogger(__name__)

LOG = "log.jsonl"
CHECKPOINTS = "checkpoints"


def _unheard(entry: Entry) -> None:
    del entry


@dataclass(frozen=True)
class Keep:
    """What becomes of a run on its way.

    Attributes:
        folder: Where the log and the checkpoints go; None keeps neither.
        resume: Whether to go on from the last checkpoint in `folder`, if there is one.
        on_step: Called with each line of the log as it comes.
    """

    folder: Path | None = None
    resume: bool = False
    on_step: Callable[[Entry], None] = _unheard


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned model.

    Attributes:
        loaded: The model after; under LoRA a PEFT model, whose adapters can be switched off.
        record: What was done and how it went.
        log: A line a logged step, as in ``log.jsonl``.
    """

    loaded: LoadedModel
    record: TuneRecord
    log: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class _Job:
    """What is trained, on what, and how: all that a run of steps needs.

    Attributes:
        run: What tells this run from others, for its checkpoints.
        factors: The learning rate factor of each parameter that trains.
        tau: The relative step of every group; None where the optimizer decides.
    """

    loaded: LoadedModel
    objective: Objective
    material: Material
    groups: tuple[LayerGroup, ...]
    settings: TuneSettings
    factors: Mapping[str, float]
    tau: float | None
    run: Mapping[str, Any]


def fine_tune(
    loaded: LoadedModel,
    data: TextData,
    objective: Objective,
    *,
    condition: str = "standard",
    settings: TuneSettings | None = None,
    placement: Placement | None = None,
    keep: Keep | None = None,
) -> Tuned:
    """`loaded` after fine-tuning on `data`, changed in place.

    Under torch.distributed, processes share each step's forwards.

    Args:
        loaded: The model.
        data: The text.
        objective: The loss.
        condition: How it is optimised; one of `CONDITIONS`.
        settings: The rest of how it is optimised; the defaults where None.
        placement: Where LoRA adapters go; only with the condition ``lora``.
        keep: Where the log and the checkpoints go; nowhere where None.

    Raises:
        BadInputError: A setting, the data or a checkpoint cannot be used.
        NonFiniteError: A loss or gradient is NaN or infinite; names the layer group.
        OutputError: A checkpoint cannot be written; the one before it stays.
    """
    chosen = CONDITIONS[condition]
    settings = _completed(settings or TuneSettings(), chosen, placement)
    material = gather(loaded, data, objective, settings)
    described = model_info(loaded)
    run = _spec(loaded, data, objective, chosen, settings, placement)
    with rng_untouched(derive(settings.seed, "tune")):
        subject, placement = _prepared(loaded, chosen, placement)
        groups = layer_groups(subject.model, subject.stacks)
        factors = _factors(subject, chosen, settings)
        job = _Job(subject, objective, material, groups, settings, factors, None, run)
        if chosen.equal_step:
            job = replace(job, tau=settings.tau or _matched(job))
        ended = _steps(job, keep or Keep())
    record = TuneRecord(
        model=described,
        data=data_info(data, material.batches, objective, max_length=settings.max_length),
        condition=condition,
        settings=settings,
        groups=group_records(subject.model, groups, factors, settings, ended.entries),
        outcome=ended.outcome,
        form="adapter" if chosen.adapters else "model",
        provenance=collect(device=str(next(subject.model.parameters()).device)),
        tau=job.tau,
        placement=placement,
        notes=(*loaded.notes, *data.notes, *material.batches.notes, *ended.notes),
    )
    return Tuned(subject, record, tuple(ended.entries))


def _completed(
    settings: TuneSettings, condition: Condition, placement: Placement | None
) -> TuneSettings:
    """`settings` with the condition's learning rate where none is given.

    Raises:
        BadInputError: A setting or a placement has no meaning under the condition.
    """
    if placement is not None and not condition.adapters:
        message = "placement of adapters under a condition that trains the weights"
        raise BadInputError(message, value=condition.name, hint="--condition lora")
    plain, own = to_plain(settings), to_plain(TuneSettings())
    unread = {n for c in CONDITIONS for n in CONDITIONS[c].reads} - condition.reads
    odd = sorted(n for n in unread if plain.get(n) != own.get(n))
    if odd:
        takers = [c for c in CONDITIONS if odd[0] in CONDITIONS[c].reads]
        message = f"{odd[0].replace('_', '-')} has no meaning under condition {condition.name}"
        hint = f"--condition {takers[0]}"
        raise BadInputError(message, value=plain[odd[0]], hint=hint)
    return replace(settings, learning_rate=settings.learning_rate or condition.rate)


def _spec(
    loaded: LoadedModel,
    data: TextData,
    objective: Objective,
    condition: Condition,
    settings: TuneSettings,
    placement: Placement | None,
) -> dict[str, Any]:
    """What tells a run from another one; a checkpoint is for one run alone."""
    parts = {
        "model": loaded.source,
        "model_files": dict(loaded.files),
        "data_sha256": data.sha256,
        "objective": objective.name,
        "condition": condition.name,
        "processes": distributed.world_size(),
        "placement": None if placement is None else list(placement.modules),
        "rank": None if placement is None else placement.rank,
        **{k: v for k, v in to_plain(settings).items() if k not in _FREE},
    }
    return {k: v for k, v in parts.items() if v is not None}


#: Settings that may change when a run goes on: they change no weight.
_FREE = frozenset({"log_every", "save_every", "eval_every", "track"})


def _prepared(
    loaded: LoadedModel, condition: Condition, placement: Placement | None
) -> tuple[LoadedModel, Placement | None]:
    """The model with adapters, where the condition has them, and where they are."""
    if not condition.adapters:
        return loaded, None
    placed = placement or placed_on(loaded)
    return adapted(loaded, placed), placed


def _factors(
    subject: LoadedModel, condition: Condition, settings: TuneSettings
) -> Mapping[str, float]:
    """The learning rate factor of each parameter that trains."""
    if condition.adapters:
        return {n: 1.0 for n, p in subject.model.named_parameters() if p.requires_grad}
    where = places(roles(subject.model, subject.stacks), subject.stacks)
    return condition.trained(where, settings)


def _matched(job: _Job) -> float:
    """The relative step of the standard condition's first steps; the model is left as it was."""
    settings = replace(
        job.settings,
        steps=min(job.settings.match_steps, job.settings.steps),
        log_every=1,
        save_every=0,
        eval_examples=0,
        track=None,
    )
    standard = CONDITIONS["standard"]
    factors = _factors(job.loaded, standard, settings)
    before = {k: v.clone() for k, v in job.loaded.model.state_dict().items()}
    ended = _steps(replace(job, settings=settings, factors=factors), Keep())
    job.loaded.model.load_state_dict(before)
    tau = match_tau([entry["step_ratio"] for entry in ended.entries])
    log.info("tau matched to %.3g over %d steps of standard", tau, len(ended.entries))
    return tau


@dataclass(frozen=True)
class _Ended:
    """How a run of steps went."""

    entries: list[Entry]
    outcome: Any
    notes: tuple[str, ...]


def _steps(job: _Job, keep: Keep) -> _Ended:
    """Train `job`'s model in place."""
    device = next(job.loaded.model.parameters()).device
    checkpoints = Checkpoints(keep.folder / CHECKPOINTS, job.run) if keep.folder else None
    last = checkpoints.latest() if checkpoints and keep.resume else None
    with (
        quiet(),
        _output(keep.folder) as output,
        _trainable(job.loaded.model, job.factors),
        job.objective.prepare(job.loaded.model) as changed,
    ):
        trainer = _trainer(job, output, checkpoints)
        steplog = _steplog(job, trainer, keep, until=last[1] if last else 0)
        reset_peak_memory(device)
        began = time.perf_counter()
        trainer.train(resume_from_checkpoint=str(last[0]) if last else None)
        seconds = time.perf_counter() - began
        if job.settings.eval_examples and "eval_loss" not in steplog.entries[-1]:
            trainer.evaluate()
    job.loaded.model.eval()
    made = outcome(
        job.settings,
        steplog.entries,
        examples=len(job.material.train),
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes(device),
        processes=distributed.world_size(),
        resumed_from=last[1] if last else None,
    )
    return _Ended(steplog.entries, made, tuple(changed))


def _steplog(job: _Job, trainer: ForwardTrainer, keep: Keep, *, until: int) -> StepLog:
    """The log of `trainer`'s run, going on from step `until`."""
    file = keep.folder / LOG if keep.folder else None
    steplog = StepLog(
        norms=lambda: trainer.group_norms,
        file=file,
        entries=read_log(file, until=until) if file and until else [],
        on_step=keep.on_step,
        every=job.settings.log_every,
    )
    trainer.add_callback(steplog)
    return steplog


@contextmanager
def _output(folder: Path | None) -> Iterator[Path]:
    """Where Trainer writes; it wants a folder even where nothing is to be kept."""
    if folder is not None:
        yield folder / CHECKPOINTS
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


@contextmanager
def _trainable(model: nn.Module, factors: Mapping[str, float]) -> Iterator[None]:
    """Inside, the parameters named in `factors` train and no others; after, as before."""
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in factors)
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])
            parameter.grad = None


def _trainer(job: _Job, output: Path, checkpoints: Checkpoints | None) -> ForwardTrainer:
    settings = job.settings
    trainer = ForwardTrainer(
        objective=job.objective,
        layer_groups=job.groups,
        seed=settings.seed,
        save=checkpoints.save if checkpoints else _unsaved,
        model=job.loaded.model,
        args=_arguments(job, output),
        train_dataset=job.material.forwards(
            settings, steps=settings.steps, processes=distributed.world_size()
        ),
        eval_dataset=job.material.evaluation(settings),
        optimizer_cls_and_kwargs=(
            optimizer_factory,
            {
                "groups": job.groups,
                "factors": job.factors,
                "learning_rate": settings.learning_rate,
                "weight_decay": settings.weight_decay,
                "tau": job.tau,
                "method": settings.equal_step if job.tau is not None else "sampled",
                "seed": settings.seed,
            },
        ),
    )
    trainer.remove_callback(PrinterCallback)
    stop_at_lowest(job.loaded.model)
    return trainer


def _unsaved(write: Callable[[], None], step: int) -> None:
    del write, step


def _arguments(job: _Job, output: Path) -> TrainingArguments:
    settings = job.settings
    cpu = next(job.loaded.model.parameters()).device.type == "cpu"
    return TrainingArguments(
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
        eval_on_start=bool(settings.eval_examples),
        bf16=settings.bf16,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=not cpu,
        use_cpu=cpu,
        report_to=settings.track or "none",
        seed=derive(settings.seed, "trainer") % 2**32,
        disable_tqdm=True,
    )
