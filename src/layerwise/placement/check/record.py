"""A check: what a config really trains, and what of it does nothing or too much."""

from dataclasses import dataclass
from typing import Annotated

from layerwise.card.record import ModelInfo
from layerwise.placement.record import PlacedBlock
from layerwise.provenance import Provenance
from layerwise.records import ABSENT, DocumentRecord, FileRecord, JsonRecord


@dataclass(frozen=True)
class Finding:
    """A thing that a config says and does not do, or does unsaid.

    Attributes:
        code: Its kind.
        key: The config's own key, with the `value` there.
        text: What happens.
        remedy: What to write.
    """

    code: str
    key: str
    value: str
    text: str
    remedy: str


@dataclass(frozen=True)
class KindCoverage:
    """The modules of one kind in a stack's blocks; indices of experts stand as ``*``.

    Attributes:
        stack: The stack.
        kind: The name inside a block.
        modules: How many there are.
        trained: How many of them train.
        how: ``adapter`` or ``whole``; empty where none trains.
        blocks: The blocks in which one trains.
        missed: The blocks that have one, but none that trains.
        ranks: Ranks of the adapters.
        parameters: What trains in them.
    """

    stack: str
    kind: str
    modules: int
    trained: int
    how: str
    blocks: tuple[int, ...]
    missed: tuple[int, ...]
    ranks: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class OutsideModule:
    """A module outside every block that trains."""

    name: str
    how: str
    parameters: int


@dataclass(frozen=True)
class Check(JsonRecord, FileRecord, DocumentRecord):
    """The parts of a model that a config trains, found without its weights.

    Attributes:
        model: The model.
        config: The config's file.
        trainer: Whose config it is.
        findings: What is wrong with it; empty where nothing is.
        kinds: The blocks by kind of module: what trains, and what does not.
        outside: What trains outside blocks.
        parameters: How many parameters train.
        lowest: The lowest block with one; None where none is in a block.
        backward_blocks: How many blocks a backward pass goes through.
        fixed: The config without what was found, where that was asked for and can be had.
        notes: What was taken for granted, or could not be read.
        provenance: How the check was made.
    """

    SCHEMA = "layerwise/check/1"
    FILE = "check.json"
    DOCUMENT = "check"

    model: ModelInfo
    config: str
    trainer: str
    findings: tuple[Finding, ...]
    kinds: tuple[KindCoverage, ...]
    outside: tuple[OutsideModule, ...]
    parameters: int
    lowest: Annotated[PlacedBlock | None, ABSENT]
    backward_blocks: int
    fixed: Annotated[str | None, ABSENT]
    notes: tuple[str, ...]
    provenance: Provenance

    @property
    def clean(self) -> bool:
        """Return whether nothing was found."""
        return not self.findings
