"""Transformers' Trainer with an objective for a loss and forwards for data.

What comes with Trainer (bfloat16, accumulation, checkpointing, several processes, trackers) is
Trainer's. What is ours is here: the loss, evaluation on it, checkpoints that are exact for every
architecture, and a stop at the first number that is not finite.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer

from layerwise import distributed
from layerwise.models.load import LoadedModel
from layerwise.objectives.forward import class_losses, told
from layerwise.objectives.quality import class_quality
from layerwise.objectives.record import Objective
from layerwise.seeds import derive
from layerwise.shapes import Tensor
from layerwise.tuning.checkpoints import Checkpoints
from layerwise.tuning.equal_step import EqualStep
from layerwise.tuning.finite import first_bad, gradient_fault, group_norms, refuse
from layerwise.tuning.groups import REST, LayerGroup
from layerwise.tuning.material import Forward, Forwards, Material
from layerwise.tuning.record import TuneSettings
from layerwise.tuning.steplog import EVALUATED
from layerwise.tuning.writing import write_model

Inputs = dict[str, Any]
_Row = tuple[Any, ...]
"""Of a held-out example: its loss, and where there are classes the predicted and its own."""

_GRADIENT = "gradient"


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


class ForwardTrainer(Trainer):  # type: ignore[misc]  # transformers carries no types
    """A Trainer whose batches are forwards of an objective.

    Dropout is drawn by the job's seed and the forward's number; `options` are Trainer's own.
    """

    def __init__(self, *, job: Job, checkpoints: Checkpoints | None, **options: Any) -> None:
        # An item of the data is a whole batch.
        options["data_collator"] = lambda items: {"forward": items[0]}
        super().__init__(**options, model=job.loaded.model)
        self.model_accepts_loss_kwargs = False  # The loss is a mean: Trainer divides it.
        self._job, self._checkpoints = job, checkpoints
        #: What was not finite in the step so far, and in which layer group.
        self._fault: tuple[str, str] | None = None
        #: The forwards of the step so far.
        self._forwards: list[Forward] = []
        #: Each layer group's gradient norm before the last step, before clipping.
        self.group_norms: Mapping[str, float] = {}

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return the optimizer, made once and of the wrapped model where there is one."""
        made: torch.optim.Optimizer | None = getattr(self, "optimizer", None)
        if made is None:
            self.optimizer = made = build_optimizer(
                self.model if model is None else model, self._job
            )
        return made

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        """Return the order of the forwards: theirs (Trainer's option for it came with 5)."""
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def compute_loss(self, model: Any, inputs: Inputs, *_: Any, **__: Any) -> Tensor:
        """Return the mean loss of a forward's rows."""
        forward: Forward = inputs["forward"].to(self.args.device)
        with self._drawn("dropout", forward):
            loss = self._losses(model, forward).mean()
        self._forwards.append(forward)
        value = loss.detach().item()
        if not math.isfinite(value):
            self._fault = self._fault or (f"loss ({value})", self._source(forward) or REST)
        return loss

    @contextmanager
    def _drawn(self, purpose: str, forward: Forward) -> Iterator[None]:
        """Draw dropout by the forward's number inside, and run forwards in the precision.

        By number, not by what ran before: neither resuming nor sharing the work changes a mask.
        """
        torch.manual_seed(derive(self._job.settings.seed, purpose, forward.number))
        with self.accelerator.autocast():
            yield

    def _losses(self, model: Any, forward: Forward) -> Tensor:
        inner = self._inner(model)
        if inner is model:
            return self._job.objective.losses(model, forward.batch)
        with _routed(inner, lambda: self._job.objective.losses(inner, forward.batch)):
            losses: Tensor = model()
        return losses

    def _inner(self, model: Any) -> Any:
        return self.accelerator.unwrap_model(model, keep_torch_compile=True)

    def _source(self, forward: Forward, *, purpose: str = "dropout") -> str:
        """Find the layer group in which `forward` first is not finite; empty if in none."""
        model = self._inner(self.model)
        with first_bad(model, self._job.groups) as group, torch.no_grad():
            with self._drawn(purpose, forward):
                self._job.objective.losses(model, forward.batch)
            return group()

    def training_step(self, *args: Any, **options: Any) -> Tensor:
        """Return the loss of one forward, its gradient added to what is there.

        Raises:
            NonFiniteError: The gradient is whole, and it or a loss is not finite; raised by every
                process alike, as one that went on alone would wait for the others for ever.
        """
        loss: Tensor = super().training_step(*args, **options)
        if self.accelerator.sync_gradients:
            self._look_at_gradients()
            self._forwards.clear()
            if self._checkpoints:
                self._checkpoints.settle()
        return loss

    def _look_at_gradients(self) -> None:
        self.group_norms = group_norms(self.model, self._job.groups)
        highest = gradient_fault(self.model, self._job.groups, self.group_norms)
        if highest and not self._fault:
            # What went wrong forwards, where no loss looks, tells more than what it did backwards.
            sources = filter(None, map(self._source, self._forwards))
            self._fault = _GRADIENT, next(sources, highest)
        self._stop_at_fault(self.state.global_step + 1)

    def _stop_at_fault(self, step: int) -> None:
        """Stop every process if one has a fault; a loss of one makes the gradients of all bad."""
        faults = [fault for fault in distributed.all_gather(self._fault) if fault]
        for what, group in sorted(faults, key=lambda fault: fault[0] == _GRADIENT):
            refuse(what, group, step=step)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return the held-out examples' mean loss, ``eval_loss``, and how well classes are told.

        The latter where the objective has classes: ``eval_accuracy`` and ``eval_macro_f1``.

        Raises:
            NonFiniteError: The loss is NaN or infinite.
        """
        forwards: Forwards = self.eval_dataset
        mine = range(distributed.rank(), len(forwards), distributed.world_size())
        was = self.model.training
        self.model.train(self._job.objective.stochastic)
        with torch.no_grad():
            judged = [self._judged(forwards[i].to(self.args.device)) for i in mine]
        self.model.train(was)
        self._stop_at_fault(self.state.global_step)
        every = distributed.all_gather([row for part in judged for row in part])
        losses, *classes = zip(*(row for part in every for row in part), strict=True)
        found = {"loss": sum(losses) / len(losses), **(class_quality(*classes) if classes else {})}
        metrics = {f"{EVALUATED}{name}": value for name, value in found.items()}
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _judged(self, forward: Forward) -> list[_Row]:
        """Get each row's loss, and where rows have classes the one it was taken for and its own."""
        model, batch, objective = self._inner(self.model), forward.batch, self._job.objective
        with self._drawn("evaluation", forward):
            if objective.class_logits is None:
                logits, losses = None, objective.losses(model, batch)
            else:
                logits = objective.class_logits(model, batch)
                losses = class_losses(logits, batch)
        if not bool(losses.isfinite().all()):
            self._fault = "evaluation loss", self._source(forward, purpose="evaluation") or REST
        columns = [losses.float().tolist()]
        if logits is not None and batch.classes is not None:
            columns += [told(logits, batch.classes).tolist(), batch.classes.tolist()]
        return list(zip(*columns, strict=True))

    def floating_point_ops(self, inputs: Inputs) -> int:
        """Return nothing: Trainer's estimate is of full fine-tuning, whatever is adapted."""
        del inputs
        return 0

    def _get_output_dir(self, trial: Any) -> str:
        """Return where checkpoints go, apart from what else Trainer and trackers write."""
        kept = self._checkpoints
        return str(kept.folder) if kept else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self._checkpoints:
            write = super()._save_checkpoint
            self._checkpoints.save(lambda: write(model, trial), self.state.global_step)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        del state_dict
        if self.args.should_save:
            write_model(self._job.loaded, Path(str(output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights of a checkpoint.

        Trainer reads a whole model's file into the model as it is. Where transformers keeps
        weights on disk otherwise than in memory (fused experts), it would leave those as they were.
        """
        if hasattr(self.model, "peft_config"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(self.model).from_pretrained(
            resume_from_checkpoint, dtype=self.model.dtype, local_files_only=True
        )
        self.model.load_state_dict(saved.state_dict())


def build_optimizer(model: Any, job: Job) -> EqualStep:
    """AdamW with a parameter group for each layer group and rate, wrapped to measure or set steps.

    Names of `model` may carry the prefix of a distributed wrapper; without a tau steps are measured
    alone.
    """
    settings, factors = job.settings, job.factors
    assert settings.learning_rate is not None, "a run has its condition's rate"  # noqa: S101
    parameters = {name.removeprefix("module."): p for name, p in model.named_parameters()}
    trained = {g.name: [n for n in g.parameters if n in factors] for g in job.groups}
    split = [
        {
            "params": [parameters[n] for n in names if factors[n] == factor],
            "lr": settings.learning_rate * factor,
            "layer_group": group,
        }
        for group, names in trained.items()
        for factor in dict.fromkeys(factors[n] for n in names)
    ]
    adamw = torch.optim.AdamW(
        split, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    tensors = {group: [parameters[n] for n in names] for group, names in trained.items() if names}
    return EqualStep(adamw, tensors, job.tau, method=job.method, seed=settings.seed)


@contextmanager
def _routed(inner: Any, losses: Callable[[], Tensor]) -> Iterator[None]:
    """Let a call of the wrapper of `inner` run `losses` inside, and not the forward.

    Gradients are averaged over processes only for what runs in the wrapper's own forward, and an
    objective may need another part of the model than its head.
    """
    original = inner.forward

    def once(*_: Any, **__: Any) -> Tensor:
        inner.forward = original
        return losses()

    inner.forward = once
    try:
        yield
    finally:
        inner.forward = original
