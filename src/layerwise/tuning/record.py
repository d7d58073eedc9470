"""What a fine-tuning run was and how it went: ``tune.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from layerwise.card.record import DataInfo, ModelInfo
from layerwise.options.declaration import declared
from layerwise.options.groups import Settings
from layerwise.placement.record import Placement
from layerwise.provenance import Provenance
from layerwise.records import ABSENT, DocumentRecord, FileRecord, JsonRecord

_DEFAULT: Mapping[str, Any] = {name: o.default for name, o in declared(Settings).items()}


@dataclass(frozen=True)
class TuneSettings:
    """How a run is optimised: each field is the option of that name in `options.groups`."""

    steps: int = _DEFAULT["steps"]
    learning_rate: float | None = _DEFAULT["learning_rate"]
    batch_size: int = _DEFAULT["batch_size"]
    accumulation: int = _DEFAULT["accumulation"]
    max_length: int | None = _DEFAULT["max_length"]
    seed: int = _DEFAULT["seed"]
    weight_decay: float = _DEFAULT["weight_decay"]
    max_grad_norm: float = _DEFAULT["max_grad_norm"]
    decay: float = _DEFAULT["decay"]
    top: int | None = _DEFAULT["top"]
    tau: float | None = _DEFAULT["tau"]
    match_steps: int = _DEFAULT["match_steps"]
    equal_step: str = _DEFAULT["equal_step"]
    bf16: bool = _DEFAULT["bf16"]
    gradient_checkpointing: bool = _DEFAULT["gradient_checkpointing"]
    log_every: int = _DEFAULT["log_every"]
    save_every: int = _DEFAULT["save_every"]
    eval_every: int = _DEFAULT["eval_every"]
    eval_examples: int = _DEFAULT["eval_examples"]
    track: str | None = _DEFAULT["track"]
    packing: bool | None = None

    @property
    def length(self) -> int:
        """Return `max_length`, once it is known.

        Raises:
            ValueError: It is to come from the data, and nobody has looked there yet.
        """
        if self.max_length is None:
            message = "length that was not fitted to the data"
            raise ValueError(message)
        return self.max_length


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
    row: Annotated[int | None, ABSENT]
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


def _of_first_schema(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a run of the first schema, with a note where its condition meant something else."""
    if plain.get("condition") != "frozen-lower":
        return plain
    meant = (
        "made by an earlier rule: frozen-lower froze the embeddings too, as top-m does with half "
        "of the blocks"
    )
    return {**plain, "notes": [*plain.get("notes", ()), meant]}


@dataclass(frozen=True)
class TuneRecord(JsonRecord, FileRecord, DocumentRecord):
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

    SCHEMA = "layerwise/tune/2"
    FILE = "tune.json"
    DOCUMENT = "tune"
    OLDER: ClassVar = {"layerwise/tune/1": _of_first_schema}

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
