"""What a fine-tuning run was and how it went: ``tune.json``."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from layerwise.card.record import DataInfo, ModelInfo
from layerwise.errors import UnknownNameError
from layerwise.placement.record import Placement
from layerwise.provenance import Provenance
from layerwise.records import Loadable, Saved, Shown

__all__ = ["GroupRecord", "TuneOutcome", "TuneRecord", "TuneSettings", "tune_settings"]


@dataclass(frozen=True)
class TuneSettings:
    """How a run is optimised; the defaults are arXiv 2604.17177's where it names one.

    Attributes:
        steps: Optimizer steps.
        learning_rate: The top rate; None takes 2e-5, and 2e-4 under ``lora``.
        batch_size: Examples that one forward takes, in each process.
        accumulation: Forwards that one optimizer step sums up.
        max_length: Tokens that an example is cut at.
        seed: Fixes the data order, dropout, masks, adapters' A and a new head.
        weight_decay: AdamW's, on every parameter.
        max_grad_norm: Gradients are clipped at this norm, all parameters together.
        decay: Learning rate factor per block from the top down, under ``standard``.
        top: Blocks that train under ``top-m``, counted from the output.
        tau: Relative step under ``equal-step``; None matches it to the standard condition.
        match_steps: Steps of the standard condition that the match looks at.
        equal_step: How the step is measured: ``exact``, ``sampled`` or ``copy``.
        bf16: Whether forward and backward run under bfloat16 autocast.
        gradient_checkpointing: Whether activations are recomputed in the backward.
        log_every: Steps between lines of ``log.jsonl``.
        save_every: Steps between checkpoints; 0 keeps none but the result.
        eval_every: Steps between evaluations; 0 evaluates at the end alone.
        eval_examples: Examples held out for evaluation; 0 evaluates nothing.
        track: An experiment tracker: ``trackio``, ``wandb`` or ``tensorboard``.
    """

    steps: int = 100
    learning_rate: float | None = None
    batch_size: int = 32
    accumulation: int = 1
    max_length: int = 128
    seed: int = 0
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    decay: float = 0.95
    top: int | None = None
    tau: float | None = None
    match_steps: int = 50
    equal_step: str = "exact"
    bf16: bool = False
    gradient_checkpointing: bool = False
    log_every: int = 1
    save_every: int = 0
    eval_every: int = 0
    eval_examples: int = 0
    track: str | None = None


def tune_settings(chosen: Mapping[str, Any], *, without: Collection[str] = ()) -> TuneSettings:
    """The settings that `chosen` gives values to, the others at their defaults.

    Raises:
        UnknownNameError: There is no such setting, or it is among those `without`.
    """
    known = [f.name for f in fields(TuneSettings) if f.name not in without]
    for name in chosen:
        if name not in known:
            kind = "setting"
            raise UnknownNameError(kind, value=name, known=known)
    return TuneSettings(**chosen)


@dataclass(frozen=True)
class GroupRecord:
    """One layer group of a run.

    Attributes:
        name: The block's qualified name, or ``rest``.
        row: The block's position among the blocks of all stacks; None for the rest.
        parameters: How many numbers it has.
        trained: How many of them were trained (under LoRA, the adapters').
        learning_rate: The first step's; None where nothing is trained.
        step_ratio: ||dW|| / ||W||, the median over the steps that were measured.
        step_ratio_low: Its 5th percentile.
        step_ratio_high: Its 95th percentile.
    """

    name: str
    row: int | None
    parameters: int
    trained: int
    learning_rate: float | None = None
    step_ratio: float | None = None
    step_ratio_low: float | None = None
    step_ratio_high: float | None = None


@dataclass(frozen=True)
class TuneOutcome:
    """How a run went.

    Attributes:
        steps: Optimizer steps that were made.
        examples: Examples that were seen, repeats counted.
        epochs: How often the data was gone through.
        loss: Mean training loss over the last tenth of the steps.
        first_loss: The first step's training loss.
        eval_loss: Mean loss of the held-out examples at the end; None without any.
        first_eval_loss: The same before the first step.
        quality: How well the classes of the held-out examples are told at the end, by name:
            ``accuracy`` and ``macro_f1``; empty where there are no classes or examples.
        first_quality: The same before the first step.
        seconds: Wall time of the training loop.
        peak_memory_bytes: The largest resident (CUDA: allocated) size.
        processes: How many processes trained together.
        resumed_from: The step of the checkpoint that it went on from; None where it did not.
    """

    steps: int
    examples: int
    epochs: float
    loss: float
    first_loss: float
    seconds: float
    peak_memory_bytes: int
    processes: int = 1
    eval_loss: float | None = None
    first_eval_loss: float | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    first_quality: Mapping[str, float] = field(default_factory=dict)
    resumed_from: int | None = None


@dataclass(frozen=True)
class TuneRecord(Saved, Loadable, Shown):
    """A fine-tuning run.

    Attributes:
        model: What was trained, as it was before.
        data: What it was trained on.
        condition: How it was optimised, by name.
        settings: The rest of how it was optimised, with every default filled in.
        groups: Layer groups, blocks from the input to the output and the rest last.
        outcome: How it went.
        form: ``model`` for whole weights, ``adapter`` for a PEFT adapter.
        tau: The relative step that equal-step asked of each group; None elsewhere.
        placement: Where the adapters are.
        files: SHA-256 of each file of the result, by name.
        notes: What was done otherwise than asked or by default.
    """

    SCHEMA = "layerwise/tune/1"
    FILE = "tune.json"
    DOCUMENT = "tune"

    model: ModelInfo
    data: DataInfo
    condition: str
    settings: TuneSettings
    groups: tuple[GroupRecord, ...]
    outcome: TuneOutcome
    form: str
    provenance: Provenance
    tau: float | None = None
    placement: Placement | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
