"""A model, some text, an objective and a condition in; a fine-tuned model and its record out."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layerwise import distributed
from layerwise.capture.restore import drawn_by, weights_kept
from layerwise.card.describe import data_info, model_info
from layerwise.data.text import TextData
from layerwise.errors import BadInputError
from layerwise.extras import locate
from layerwise.models.linear import is_coded
from layerwise.models.load import LoadedModel
from layerwise.models.quantisation import (
    quantisation,
    refuse_full_training,
    refuse_untrainable,
    refuse_without_gradient,
)
from layerwise.models.roles import roles
from layerwise.objectives import Objective
from layerwise.objectives.classification import named_problem
from layerwise.objectives.forward import without_adapter
from layerwise.objectives.length import fitted
from layerwise.placement.record import Placement
from layerwise.provenance import collect
from layerwise.records import to_plain
from layerwise.tuning.adapters import has_adapters, still_notes
from layerwise.tuning.checkpoints import Checkpoint, Checkpoints
from layerwise.tuning.conditions import CONDITIONS, Condition, places
from layerwise.tuning.groups import in_blocks, layer_groups
from layerwise.tuning.lora import adapter_parameters, head_notes, prepared
from layerwise.tuning.material import gather
from layerwise.tuning.outcome import group_records, matched_tau
from layerwise.tuning.record import TuneRecord, TuneSettings
from layerwise.tuning.steps import CHECKPOINTS, Persistence, run_steps
from layerwise.tuning.trainer import Job

log = logging.getLogger(__name__)

#: Settings that may change when a run goes on: they change no weight.
FREE = frozenset({"log_every", "save_every", "eval_every", "track"})


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

    def __str__(self) -> str:
        return str(self.record)

    def _repr_html_(self) -> str:
        return self.record._repr_html_()


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
        placement: Where LoRA adapters go, with the condition ``lora``; or the blocks that train
            whole, all others frozen, with one that trains the weights.
        keep: Where the log and the checkpoints go; nowhere where None.

    Raises:
        BadInputError: A setting, the data or a checkpoint cannot be used.
        NonFiniteError: A loss, gradient or weight is NaN or infinite; names the layer group.
        OutputError: A checkpoint cannot be written; the one before it stays.
    """
    chosen, keep = CONDITIONS[condition], keep or Persistence()
    settings = _completed(settings or TuneSettings(), chosen, placement)
    _refuse_unfit(loaded, chosen, settings)
    length, data = fitted(loaded, data, objective, settings.max_length)
    settings = replace(settings, max_length=length)
    material = gather(loaded, data, objective, settings)
    named_problem(without_adapter(loaded.model), data)
    described = model_info(loaded)
    checkpoints = None
    if keep.folder:  # The identity may take a hash of all weights, and is for checkpoints alone.
        run = _identity(loaded, data, objective, chosen, settings, placement)
        checkpoints = Checkpoints(keep.folder / CHECKPOINTS, run)
    with drawn_by(settings.seed, "tune"):
        subject, placed = prepared(loaded, placement) if chosen.adapters else (loaded, placement)
        groups = layer_groups(subject.model, subject.stacks)
        factors = _factors(subject, chosen, settings)
        if placed is not None and placed.whole:
            factors = in_blocks(factors, placed, subject)
        method = settings.equal_step if chosen.equal_step else "sampled"
        job = Job(subject, objective, material, groups, settings, factors, method)
        last = _last(checkpoints, resume=keep.resume) if checkpoints else None
        if chosen.equal_step:
            known = settings.tau or (last.tau if last else None)
            job = replace(job, tau=known or _matched(job))
        if checkpoints:
            checkpoints.tau = job.tau
        entries, outcome, changed = run_steps(job, keep, checkpoints, last)
    record = TuneRecord(
        model=described,
        data=data_info(data, material.batches, objective, max_length=settings.length),
        condition=condition,
        settings=settings,
        groups=group_records(subject.model, groups, factors, settings, entries),
        outcome=outcome,
        form="adapter" if chosen.adapters else "model",
        provenance=collect(device=str(subject.device)),
        tau=job.tau,
        placement=placed,
        notes=(
            *loaded.notes,
            *data.notes,
            *material.batches.notes,
            *(head_notes(subject.model, placed) if placed else ()),
            *still_notes(subject.model),
            *changed,
        ),
    )
    return Tuned(subject, record, tuple(entries))


def usual_condition(placement: Any, *, adapters: bool = False) -> str:
    """Return the condition where none is named, for a model that may have `adapters` already."""
    if isinstance(placement, Placement) and placement.whole:
        return "uniform"
    return "lora" if placement is not None or adapters else "standard"


def _completed(
    settings: TuneSettings, condition: Condition, placement: Placement | None
) -> TuneSettings:
    """Return `settings` with the condition's learning rate where none is given.

    Raises:
        BadInputError: A setting or a placement has no meaning under the condition.
    """
    if placement is not None and placement.whole and condition.adapters:
        message = "placement of blocks that train whole under a condition that trains adapters"
        raise BadInputError(
            message, value=condition.name, hint=f"--condition {usual_condition(placement)}"
        )
    if placement is not None and not placement.whole and not condition.adapters:
        message = "placement of adapters under a condition that trains the weights"
        raise BadInputError(message, value=condition.name, hint="--condition lora")
    plain, own = to_plain(settings), to_plain(TuneSettings())
    unread = {n for c in CONDITIONS for n in CONDITIONS[c].reads} - condition.reads
    odd = sorted(n for n in unread if plain.get(n) != own.get(n))
    if odd:
        takers = [c for c in CONDITIONS if odd[0] in CONDITIONS[c].reads]
        hint = f"--condition {takers[0]}"
        message = f"{odd[0].replace('_', '-')} has no meaning under condition {condition.name}"
        raise BadInputError(message, value=plain[odd[0]], hint=hint)
    rate = settings.learning_rate or condition.rate
    return replace(settings, learning_rate=rate, packing=settings.packing or None)


def _refuse_unfit(loaded: LoadedModel, condition: Condition, settings: TuneSettings) -> None:
    """Refuse a model that cannot be trained so, or a tracker that is not there."""
    if not condition.adapters:
        refuse_full_training(loaded.model, f"condition {condition.name}")
    refuse_untrainable(without_adapter(loaded.model))
    refuse_without_gradient(loaded.model)
    if has_adapters(loaded.model) and not condition.adapters:
        message = "model with adapters under a condition that trains the weights"
        raise BadInputError(message, value=condition.name, hint="--condition lora")
    inner = without_adapter(loaded.model)
    can_checkpoint = getattr(inner, "supports_gradient_checkpointing", False)
    if settings.gradient_checkpointing and not can_checkpoint:
        architecture = type(inner).__name__
        message = "gradient checkpointing is not for this architecture"
        raise BadInputError(message, value=architecture, hint="drop --gradient-checkpointing")
    if settings.track is not None:
        locate(settings.track, extra="track", purpose="send a run's progress to a tracker")


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
        "quantisation": quantisation(loaded.model),
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "data_sha256": data.sha256,
        "classes": list(data.classes) or None,  # In another order, a head's outputs are others.
        "objective": objective.name,
        "condition": condition.name,
        "rule": condition.rule,
        "processes": distributed.world_size(),
        **{k: v for k, v in to_plain(settings).items() if k not in FREE},
    }
    if placement is not None:
        own = {n: getattr(placement, n) for n in ("rank", "ranks", "alpha", "dropout")}
        placed = to_plain(placement.blocks) if placement.whole else list(placement.modules)
        parts |= {"placement": placed, **own}
    return {k: v for k, v in parts.items() if v is not None}


def _fingerprint(model: nn.Module) -> str:
    """Return a hash of the weights of a model that comes from no file."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        plain = value.dequantize() if is_coded(value) and hasattr(value, "qdata") else value
        flat = plain.detach().reshape(-1).cpu().contiguous()
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


def has_checkpoint(folder: Path) -> bool:
    """Return whether `folder` holds a checkpoint of a run that did not end."""
    return bool(Checkpoints(folder / CHECKPOINTS, {}).steps())


def _last(checkpoints: Checkpoints, *, resume: bool) -> Checkpoint | None:
    """Return the checkpoint to go on from; where the run starts anew, earlier ones are removed."""
    if not resume:
        checkpoints.clear()
        return None
    last = checkpoints.latest()
    where = f"from step {last.step}" if last else "from the start: there is no checkpoint yet"
    log.info("going on %s", where)
    return last


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
    usual = _factors(job.loaded, CONDITIONS["standard"], settings)
    factors = {name: factor for name, factor in usual.items() if name in job.factors}
    with weights_kept(job.loaded.model):
        entries, _, _ = run_steps(replace(job, settings=settings, factors=factors))
    return matched_tau(entries, steps=settings.steps)
