"""One placement fine-tuned and taken off again: what a short budget does for it.

A bench holds what all trials share: the model, the text, the objective, the budget, and how the
untouched model does. Trials of one seed see the same batches in the same order whatever their
placement, so that they can be compared in pairs; no trial leaves anything behind, so that the model
is loaded once.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import torch

from layerwise.capture.restore import drawn_by, modules_kept
from layerwise.data.batches import Batch
from layerwise.data.text import TextData
from layerwise.errors import NonFiniteError
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.placement.record import Placement
from layerwise.progress import Progress
from layerwise.seeds import derive
from layerwise.tuning.material import Forwards, gather
from layerwise.tuning.record import TuneSettings
from layerwise.tuning.run import Tuned, fine_tune

R = TypeVar("R")
W = TypeVar("W")
T = TypeVar("T")


@dataclass(frozen=True)
class Quality:
    """How good a model is at what the user names.

    Attributes:
        name: As the user typed it.
        measure: ``measure(loaded, validation)`` gives the number.
        higher_is_better: Whether a larger number is a better model.
    """

    name: str
    measure: Callable[[LoadedModel, TextData], float]
    higher_is_better: bool = True


@dataclass(frozen=True)
class Bench:
    """What trials share.

    Attributes:
        loaded: The model; trials change it and put it back.
        train: What is trained on.
        validation: What the loss and the quality are measured on.
        objective: The loss.
        settings: The budget; a trial has its own seed and learning rate.
        loss_before: The untouched model's mean validation loss.
        quality: What is measured beside the loss; None for the loss alone.
        quality_before: The untouched model's.
    """

    loaded: LoadedModel
    train: TextData
    validation: TextData
    objective: Objective
    settings: TuneSettings
    loss_before: float
    quality: Quality | None = None
    quality_before: float | None = None


@dataclass(frozen=True)
class Trial:
    """What a placement did for the model within the budget.

    Attributes:
        seed: Of the batches' order, dropout and the adapters' start.
        learning_rate: AdamW's.
        loss_before: Mean validation loss of the untouched model.
        loss_after: The same after.
        seconds_per_step: Wall time of a step, the mean over all but the first.
        peak_memory_bytes: The largest resident (CUDA: allocated) size while it trained.
        trainable_parameters: Numbers in the adapters.
        steps: Optimizer steps.
        tokens: Tokens trained on that count in statistics, repeats counted.
        quality_before: The named quality of the untouched model; None where none is named.
        quality_after: The same after.
        higher_is_better: Whether a larger quality is a better model.
    """

    seed: int
    learning_rate: float
    loss_before: float
    loss_after: float
    seconds_per_step: float
    peak_memory_bytes: int
    trainable_parameters: int
    steps: int
    tokens: int
    quality_before: float | None = None
    quality_after: float | None = None
    higher_is_better: bool = True

    @property
    def improvement(self) -> float:
        """The gain of the named quality, or the fall of the validation loss where none is named."""
        if self.quality_before is None or self.quality_after is None:
            return self.loss_before - self.loss_after
        gain = self.quality_after - self.quality_before
        return gain if self.higher_is_better else -gain


def bench(
    loaded: LoadedModel,
    train: TextData,
    validation: TextData,
    objective: Objective,
    settings: TuneSettings,
    *,
    quality: Quality | None = None,
) -> Bench:
    """Return what trials of `loaded` share, the untouched model measured.

    The seed of `settings` fixes what the validation loss draws (hidden tokens, dropout), the same
    for every trial.

    Raises:
        DataError: Nothing is left to train or to measure on.
        BadInputError: Texts are longer than the model's positions.
    """
    budget = replace(settings, eval_examples=0, eval_every=0, save_every=0, track=None)
    ready = Bench(loaded, train, validation, objective, budget, float("nan"), quality)
    loss, score = _measured(ready, loaded)
    return replace(ready, loss_before=loss, quality_before=score)


def trial(bench: Bench, placement: Placement, *, seed: int, learning_rate: float) -> Trial:
    """Return what `placement` does for the bench's model, which is as it was afterwards.

    The same seed gives the same batches whatever the placement.

    Raises:
        NonFiniteError: The training diverged; the model is put back all the same.
        VerificationError: PEFT would adapt other modules than the placement's.
        SchemaError: The placement is for another model.
    """
    settings = replace(
        bench.settings,
        seed=seed,
        learning_rate=learning_rate,
        log_every=bench.settings.steps,  # Measuring each step would be timed with it.
    )
    with modules_kept(bench.loaded.model):
        tuned = fine_tune(
            bench.loaded,
            bench.train,
            bench.objective,
            condition="lora",
            settings=settings,
            placement=placement,
        )
        loss, score = _measured(bench, tuned.loaded)
    material = gather(bench.loaded, bench.train, bench.objective, settings)
    forwards = material.forwards(settings, steps=settings.steps, processes=1)
    return Trial(
        seed=seed,
        learning_rate=learning_rate,
        loss_before=bench.loss_before,
        loss_after=loss,
        seconds_per_step=_seconds_per_step(tuned),
        peak_memory_bytes=tuned.record.outcome.peak_memory_bytes,
        trainable_parameters=sum(group.trained for group in tuned.record.groups),
        steps=tuned.record.outcome.steps,
        tokens=sum(int(forwards[i].batch.token_mask.sum()) for i in range(len(forwards))),
        quality_before=bench.quality_before,
        quality_after=score,
        higher_is_better=bench.quality is None or bench.quality.higher_is_better,
    )


def _seconds_per_step(tuned: Tuned) -> float:
    """Return the mean over all steps but the first, which pays for the start."""
    ends = {entry["step"]: entry["seconds"] for entry in tuned.log if "seconds" in entry}
    first, last = min(ends), max(ends)
    if first == last:
        return tuned.record.outcome.seconds / tuned.record.outcome.steps
    return float((ends[last] - ends[first]) / (last - first))


def _measured(bench: Bench, loaded: LoadedModel) -> tuple[float, float | None]:
    """Return the validation loss and quality of `loaded`: the bench's model, or with adapters."""
    with drawn_by(bench.settings.seed, "validation"):
        loss = _loss(bench, loaded)
        score = bench.quality.measure(loaded, bench.validation) if bench.quality else None
    return loss, score


def _loss(bench: Bench, loaded: LoadedModel) -> float:
    """Return the mean validation loss over examples."""
    settings, model = bench.settings, loaded.model
    batches = validation_batches(loaded, bench.validation, bench.objective, settings)
    mode, losses = model.training, list[float]()
    with bench.objective.prepare(model), torch.no_grad():
        model.train(bench.objective.stochastic)
        for i, batch in enumerate(batches):
            torch.manual_seed(derive(settings.seed, "validation", i))
            with torch.autocast(loaded.device.type, torch.bfloat16, enabled=settings.bf16):
                losses += bench.objective.losses(model, batch).float().tolist()
        model.train(mode)
    mean = statistics.fmean(losses)
    if not math.isfinite(mean):
        message = "validation loss"
        raise NonFiniteError(message, value=mean, expected="a finite one", hint="a lower rate")
    return mean


def validation_batches(
    loaded: LoadedModel, data: TextData, objective: Objective, settings: TuneSettings
) -> Iterator[Batch]:
    """Return the batches of `data`, on the model's device; always the same ones.

    Raises:
        DataError: Nothing is left to measure on.
        BadInputError: Texts are longer than the model's positions.
    """
    material = gather(loaded, data, objective, settings)
    # Nothing is held out of it: it is what is held out.
    forwards = cast("Forwards", replace(material, held=material.data).evaluation(settings))
    return (forwards[i].batch.to(loaded.device) for i in range(len(forwards)))


def train_rivals(
    rivals: Iterable[R],
    ways: Sequence[W],
    train: Callable[[R, W], T],
    *,
    title: str,
    progress: Progress,
) -> dict[R, dict[W, T]]:
    """Return what `train` gives for each rival in each way; equal rivals are trained once.

    All rivals go one way before the next way begins: machines drift, and rivals are compared.
    """
    each = list(dict.fromkeys(rivals))
    jobs = [(rival, way) for way in dict.fromkeys(ways) for rival in each]
    made: dict[R, dict[W, T]] = {rival: {} for rival in each}
    for rival, way in progress(jobs, title, len(jobs)):
        made[rival][way] = train(rival, way)
    return made
