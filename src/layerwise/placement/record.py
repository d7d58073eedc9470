"""A placement: which blocks train, by which adapters or whole, and what that costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from layerwise import late_methods
from layerwise.records import DocumentRecord, FileRecord, JsonRecord


@dataclass(frozen=True)
class PlacedBlock:
    """The `index`-th block of `stack`."""

    stack: str
    index: int


@dataclass(frozen=True)
class Cost:
    """What a training step costs relative to training all blocks so (1.0 = the same)."""

    step_ratio: float
    backward_ratio: float
    activation_ratio: float


@dataclass(frozen=True)
class Verification:
    """How many modules were meant to be adapted, and how many of just those were.

    Of a placement that trains blocks whole, the tensors that train.
    """

    expected: int
    matched: int


@dataclass(frozen=True)
class Coverage(DocumentRecord):
    """Which modules of which blocks got an adapter.

    Attributes:
        blocks: Every block of the model.
        targets: The names of adapted modules inside their blocks.
        matrix: Whether each block (row) has an adapter on each target (column).
        adapter_parameters: Trainable parameters that were added.
        verified: How many modules were meant, and how many of just those were adapted.
    """

    DOCUMENT = "coverage"

    blocks: tuple[PlacedBlock, ...]
    targets: tuple[str, ...]
    matrix: tuple[tuple[bool, ...], ...]
    adapter_parameters: int
    verified: Verification


@dataclass(frozen=True)
class Placement(JsonRecord, FileRecord, DocumentRecord):
    """Adapters on some blocks, or some blocks that train whole.

    Attributes:
        policy: The policy that chose the blocks, or ``manual``.
        blocks: The blocks, in the order in which they run.
        modules: Full names of the modules that get an adapter; none where blocks train whole.
        rank: LoRA rank; 0 where blocks train whole.
        alpha: LoRA alpha (the update is scaled by alpha / rank, also where a module's rank is
            another: its alpha is then in proportion).
        adapter_parameters: Trainable parameters that the adapters add.
        cost: Relative to all blocks; None without a card.
        verified: None until the placement was held against a copy of the model.
        model: The source of the model that it is for.
        revision: That model's revision.
        dropout: LoRA dropout.
        ranks: LoRA ranks other than `rank`, by module; None where all modules have `rank`.
        notes: What was done otherwise than asked, or could not be taken into account.
        whole_parameters: Parameters of the blocks where these train whole, in place of adapters;
            None where adapters train.
    """

    SCHEMA = "layerwise/placement/1"
    FILE = "placement.json"
    DOCUMENT = "placement"

    policy: str
    blocks: tuple[PlacedBlock, ...]
    modules: tuple[str, ...]
    rank: int
    alpha: int
    adapter_parameters: int
    model: str
    revision: str | None = None
    dropout: float = 0.0
    cost: Cost | None = None
    verified: Verification | None = None
    notes: tuple[str, ...] = ()
    ranks: Mapping[str, int] | None = None
    whole_parameters: int | None = None

    @property
    def whole(self) -> bool:
        """Return whether the blocks train whole, without adapters."""
        return self.whole_parameters is not None

    @property
    def trained(self) -> int:
        """Return how many parameters train."""
        return self.adapter_parameters if self.whole_parameters is None else self.whole_parameters

    def rank_of(self, module: str) -> int:
        """Return the LoRA rank of the adapter on `module`."""
        return self.rank if self.ranks is None else self.ranks.get(module, self.rank)

    def apply(self, model: Any) -> Any:
        """Return `model` as a PEFT model with adapters on just these modules, checked.

        Raises:
            PlacementError: The blocks train whole.
            VerificationError: PEFT adapted other modules than those of this placement.
        """
        return late_methods.call("apply", self, model)

    def lora_config(self) -> Any:
        """Return the `peft.LoraConfig` of this placement, for your own trainer."""
        return late_methods.call("lora_config", self)
