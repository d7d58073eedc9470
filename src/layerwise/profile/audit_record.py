"""The audit of an adapter, by module and by block: a frozen record, also within a profile."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import pandas as pd

from layerwise.card.record import ModelInfo
from layerwise.placement.record import PlacedBlock
from layerwise.provenance import Provenance
from layerwise.records import ABSENT, DocumentRecord, FileRecord, JsonRecord, to_plain


@dataclass(frozen=True)
class Spectrum:
    """The spread of an update over its directions: figures of the singular values of scale B A.

    Attributes:
        spectral_norm: The largest singular value.
        frobenius_norm: The root of the sum of their squares.
        stable_rank: Squared Frobenius over squared spectral norm.
        effective_rank: exp of the entropy of the values divided by their sum.
        energy_rank_90: How many hold 90 % of the sum of squares.
        energy_rank_95: The same for 95 %.
        energy_rank_99: The same for 99 %.
    """

    spectral_norm: float
    frobenius_norm: float
    stable_rank: float
    effective_rank: float
    energy_rank_90: int
    energy_rank_95: int
    energy_rank_99: int


@dataclass(frozen=True)
class ModuleAudit:
    """One adapted module.

    Attributes:
        name: Its name in the base model; with that of the parameter, where one alone is adapted.
        stack: The stack of the block that it lies in; None outside all blocks.
        index: The block's place in that stack.
        rank: Directions that the adapter has room for: r, times the experts where there are some.
        experts: How many experts' weights it is for, side by side; 1 elsewhere.
        parameters: Numbers that the adapter holds.
        dead: Whether it changes nothing: B A is zero and, under DoRA, no magnitude moved.
        update: The figures of B A.
        base_spectral_norm: Of the weight that is adapted; None where that cannot be read.
        base_frobenius_norm: The same, Frobenius.
        dominance: Spectral norm of the update over the base's.
        relative_norm: Frobenius norm of the update over the base's.
        whole_relative_norm: Under DoRA, the same of the whole change, magnitudes included.
        output_change: On the probes: root mean square of what the adapter adds to the module's
            output over that of the output without it; None where that was not recorded.
    """

    name: str
    stack: Annotated[str | None, ABSENT]
    index: Annotated[int | None, ABSENT]
    rank: int
    parameters: int
    dead: bool
    update: Spectrum
    experts: int = 1
    base_spectral_norm: float | None = None
    base_frobenius_norm: float | None = None
    dominance: float | None = None
    relative_norm: float | None = None
    whole_relative_norm: float | None = None
    output_change: float | None = None


@dataclass(frozen=True)
class BlockAudit:
    """The adapters of one block.

    Attributes:
        stack: The block's stack.
        index: Its place in it.
        modules: How many of its modules have an adapter that was read.
        dead: How many of these change nothing.
        rank: The sum of their ranks.
        parameters: Numbers that they hold.
        frobenius_norm: Of all their updates together.
        relative_norm: The same over that of the weights which they adapt.
        dominance: The largest of its modules'.
        energy_rank_90: The sum of their ranks that hold 90 % of the energy.
        wasted_share: Share of the parameters in directions beyond 99 % of the energy.
        output_change: Root mean square of its modules'.
        carded: Whether a card would have placed adapters here; None without a card.
    """

    stack: str
    index: int
    modules: int
    dead: int
    rank: int
    parameters: int
    frobenius_norm: float
    energy_rank_90: int
    wasted_share: float
    relative_norm: float | None = None
    dominance: float | None = None
    output_change: float | None = None
    carded: bool | None = None


@dataclass(frozen=True)
class CardPlacement:
    """The placement that a card advises, beside where the adapter is.

    Attributes:
        data: The text that the card was made on.
        objective: The loss that it was made with.
        policy: What chose its blocks: the card's advice at the adapter's number of blocks, where
            that is not all.
        blocks: Its blocks.
        shared: How many of them the adapter is on.
        missed: Those that it is not on.
        elsewhere: The adapter's blocks that are not among them.
        norm_share: Share of the update's squared norm in the blocks that both have.
        spearman: Over the adapter's blocks, between the card's residual norm and the relative norm
            of the update; None where fewer than three have both.
        step_ratio: What a step with the card's blocks costs over one with all blocks adapted.
        adapter_step_ratio: The same of the adapter's blocks.
    """

    data: str
    objective: str
    policy: str
    blocks: tuple[PlacedBlock, ...]
    shared: int
    missed: tuple[PlacedBlock, ...]
    elsewhere: tuple[PlacedBlock, ...]
    norm_share: float
    spearman: float | None = None
    step_ratio: float | None = None
    adapter_step_ratio: float | None = None


@dataclass(frozen=True)
class Audit(JsonRecord, FileRecord, DocumentRecord):
    """The audit of an adapter: its modules, their size, the rank that they use, where they act.

    Attributes:
        kinds: What PEFT calls it (``LORA``), and variants (``DoRA``, ``rsLoRA``).
        modules: Every module whose adapter is a product B A, in the model's order.
        blocks: Every block with such a module.
        parameters: Numbers that these adapters hold.
        dead: The names of those that change nothing.
        stable_rank: Median over the modules that are not dead; 0 where all are.
        effective_rank: The same.
        energy_rank_90: The same.
        utilisation: Median of stable rank over rank.
        enough_rank: The least rank that holds 90 % of the energy in nine live modules of ten.
        wasted_share: Share of the parameters in directions beyond 99 % of the energy.
        frobenius_norm: Of all updates together.
        relative_norm: The same over that of the weights which they adapt; None where unknown.
        depth_agreement: Spearman, over blocks, between the update's relative norm and the change
            of its modules' outputs; None where fewer than three have both.
        unread: Adapted modules whose change is not a product B A, and why.
        saved_modules: Modules that were trained and saved whole.
        card: What a card would have placed; None without one.
        notes: What was counted otherwise than by default, or could not be told.
        model: The adapter on its base; its stacks are as far as the adapter names them where its
            files alone were read. None within a profile, which says it.
        provenance: How it was made; None within a profile.
    """

    SCHEMA = "layerwise/audit/1"
    FILE = "audit.json"
    DOCUMENT = "audit"

    kinds: tuple[str, ...]
    modules: tuple[ModuleAudit, ...]
    blocks: tuple[BlockAudit, ...]
    parameters: int
    dead: tuple[str, ...]
    stable_rank: float
    effective_rank: float
    energy_rank_90: float
    utilisation: float
    enough_rank: int
    wasted_share: float
    frobenius_norm: float
    relative_norm: float | None = None
    depth_agreement: float | None = None
    unread: Mapping[str, str] = field(default_factory=dict)
    saved_modules: tuple[str, ...] = ()
    card: CardPlacement | None = None
    notes: tuple[str, ...] = ()
    model: ModelInfo | None = None
    provenance: Provenance | None = None

    def frame(self) -> pd.DataFrame:
        """Return a line a module: its fields, and those of its update's spectrum."""
        rows = [to_plain(module) for module in self.modules]
        for row in rows:
            row.update(row.pop("update"))
        return pd.DataFrame(rows)
