"""A model, some text, an objective and a condition in; a fine-tuned model and its record out."""

import hashlib
import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layerwise import distributed
from layerwise.capture.restore import drawn_by, weights_kept
from layerwise.card.describe import data_info, model_info
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.models.load import LoadedModel
from layerwise.models.roles import roles
from layerwise.objectives import Objective
from layerwise.placement.record import Placement
from layerwise.provenance import collect
from layerwise.records import to_plain
from layerwise.tuning.adapters import base_of, has_adapters
from layerwise.tuning.checkpoints import Checkpoint, Checkpoints
from layerwise.tuning.conditions import CONDITIONS, Condition, places
from layerwise.tuning.groups import layer_groups
from layerwise.tuning.lora import adapter_parameters, head_notes, prepared
from layerwise.tuning.material import gather
from layerwise.tuning.outcome import group_records, matched_tau
from layerwise.tuning.record import TuneRecord, TuneSettings
from layerwise.tuning.steplog import Entry
from layerwise.tuning.steps import Job, Track, run_steps

__all__ = ["CHECKPOINTS", "FREE", "LOG", "Persistence", "Tuned", "fine_tune", "has_checkpoint"]

log = logging.getLogger(__name__)

LOG = "log.jsonl"
CHECKPOINTS = "checkpoints"
TRACKERS = ("trackio", "wandb", "tensorboard")


def _unheard(entry: Entry) -> None:
    del entry


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


def fine_tune(
    loaded: LoadedModel,
    data: TextData,
    objective: Objective,
    *,
    condition: str = "standard",
    settings: TuneSettings | None = None,
    placement: Placement | None = None,
    keep: Persistence | None = None,
) -> Tuned:
    """Return `loaded` after fine-tuning on `data`, changed in place.

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
        NonFiniteError: A loss, gradient or weight is NaN or infinite; names the layer group.
        OutputError: A checkpoint cannot be written; the one before it stays.
    """
    chosen, keep = CONDITIONS[condition], keep or Persistence()
    settings = _completed(settings or TuneSettings(), chosen, placement)
    _refuse_unfit(loaded, chosen, settings)
    material = gather(loaded, data, objective, settings)
    described = model_info(loaded)
    run: Mapping[str, Any] = {}
    if keep.folder:  # It may take a hash of all weights, and is for checkpoints alone.
        run = _identity(loaded, data, objective, chosen, settings, placement)
    with drawn_by(settings.seed, "tune"):
        subject, placed = prepared(loaded, placement) if chosen.adapters else (loaded, None)
        groups = layer_groups(subject.model, subject.stacks)
        factors = _factors(subject, chosen, settings)
        method = settings.equal_step if chosen.equal_step else "sampled"
        job = Job(subject, objective, material, groups, settings, factors, method)
        last = _last(keep, run)
        if chosen.equal_step:
            known = settings.tau or (last.tau if last else None)
            job = replace(job, tau=known or _matched(job))
        ended = run_steps(job, _track(keep, run, job.tau, last))
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
        placement=placed,
        notes=(
            *loaded.notes,
            *data.notes,
            *material.batches.notes,
            *(head_notes(subject.model) if chosen.adapters else ()),
            *ended.notes,
        ),
    )
    return Tuned(subject, record, tuple(ended.entries))


def _completed(
    settings: TuneSettings, condition: Condition, placement: Placement | None
) -> TuneSettings:
    """Return `settings` with the condition's learning rate where none is given.

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


def _refuse_unfit(loaded: LoadedModel, condition: Condition, settings: TuneSettings) -> None:
    """Refuse a model that cannot be trained so, or a tracker that is not there."""
    if has_adapters(loaded.model) and not condition.adapters:
        message = "model with adapters under a condition that trains the weights"
        raise BadInputError(message, value=condition.name, hint="--condition lora")
    if settings.gradient_checkpointing and not _can_checkpoint(loaded.model):
        message = "gradient checkpointing is not for this architecture"
        architecture = type(base_of(loaded.model)).__name__
        raise BadInputError(message, value=architecture, hint="drop --gradient-checkpointing")
    if settings.track is not None:
        _refuse_tracker(settings.track)


def _can_checkpoint(model: nn.Module) -> bool:
    return bool(getattr(base_of(model), "supports_gradient_checkpointing", False))


def _refuse_tracker(name: str) -> None:
    if name not in TRACKERS:
        kind = "tracker"
        raise UnknownNameError(kind, value=name, known=TRACKERS)
    if importlib.util.find_spec(name) is None:
        message = "tracker that is not installed"
        raise BadInputError(message, value=name, hint="pip install 'layerwise[track]'")


def _identity(
    loaded: LoadedModel,
    data: TextData,
    objective: Objective,
    condition: Condition,
    settings: TuneSettings,
    placement: Placement | None,
) -> dict[str, Any]:
    """Return what tells a run from another one; a checkpoint is for one run alone."""
    parts = {
        "model": loaded.source,
        "model_files": dict(loaded.files) or _fingerprint(loaded.model),
        "data_sha256": data.sha256,
        "objective": objective.name,
        "condition": condition.name,
        "processes": distributed.world_size(),
        "placement": None if placement is None else list(placement.modules),
        "rank": None if placement is None else placement.rank,
        "ranks": None if placement is None else placement.ranks,
        "alpha": None if placement is None else placement.alpha,
        "dropout": None if placement is None else placement.dropout,
        **{k: v for k, v in to_plain(settings).items() if k not in FREE},
    }
    return {k: v for k, v in parts.items() if v is not None}


#: Settings that may change when a run goes on: they change no weight.
FREE = frozenset({"log_every", "save_every", "eval_every", "track"})


def _fingerprint(model: nn.Module) -> str:
    """Return a hash of the weights of a model that comes from no file."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        flat = value.detach().reshape(-1).cpu().contiguous()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _factors(
    subject: LoadedModel, condition: Condition, settings: TuneSettings
) -> Mapping[str, float]:
    """Return the learning rate factor of each parameter that trains."""
    if condition.adapters:
        return dict.fromkeys(adapter_parameters(subject.model), 1.0)
    where = places(roles(subject.model, subject.stacks), subject.stacks)
    return condition.trained(where, settings)


def _checkpoints(
    keep: Persistence, run: Mapping[str, Any], *, tau: float | None = None
) -> Checkpoints | None:
    return Checkpoints(keep.folder / CHECKPOINTS, run, tau=tau) if keep.folder else None


def has_checkpoint(folder: Path) -> bool:
    """Return whether `folder` holds a checkpoint of a run that did not end."""
    return Checkpoints(folder / CHECKPOINTS, {}).has_any()


def _last(keep: Persistence, run: Mapping[str, Any]) -> Checkpoint | None:
    """Return the checkpoint to go on from; where the run starts anew, earlier ones are removed."""
    checkpoints = _checkpoints(keep, run)
    if checkpoints is None:
        return None
    if not keep.resume:
        checkpoints.clear()
        return None
    last = checkpoints.latest()
    where = f"from step {last.step}" if last else "from the start: there is no checkpoint yet"
    log.info("going on %s", where)
    return last


def _track(
    keep: Persistence, run: Mapping[str, Any], tau: float | None, last: Checkpoint | None
) -> Track:
    file = keep.folder / LOG if keep.folder else None
    return Track(keep.on_step, file, _checkpoints(keep, run, tau=tau), last)


def _matched(job: Job) -> float:
    """Measure the relative step of the standard condition's first steps; the model stays."""
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
    job = replace(job, settings=settings, factors=factors)
    with weights_kept(job.loaded.model):
        ended = run_steps(job, Track(_unheard))
    return matched_tau(ended.entries, steps=settings.steps)
