"""What a measurement found: ``measure.json``, and what of it goes into the card."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from layerwise.card.record import DataInfo, ModelInfo
from layerwise.measure.trial import Trial
from layerwise.placement.record import PlacedBlock
from layerwise.provenance import Provenance
from layerwise.records import DocumentRecord, FileRecord, JsonRecord
from layerwise.tuning.record import TuneSettings

#: What an arm is: the card's advice, a policy, a tool's own way to choose, a random draw, or what
#: the others are held against (adapters everywhere).
ArmKind = Literal["recommended", "policy", "incumbent", "random", "everywhere"]

#: How an improvement compares with another's; the honest answer is among them.
Verdict = Literal["better", "no difference", "worse"]


@dataclass(frozen=True)
class RateRung:
    """A rung of the ladder: a learning rate, and the improvement with it; None where it diverged.

    Seed and text of these trials score nobody.
    """

    learning_rate: float
    improvement: float | None = None


@dataclass(frozen=True)
class Outcome:
    """An arm's trials together.

    Attributes:
        improvement: Mean over seeds.
        low, high: Ends of its interval (95 %); None with fewer than three seeds.
        seconds_per_step: Median over seeds.
        peak_memory_bytes: The largest of all trials.
        step_ratio: Seconds a step over those of `all`; None where that did not run.
        kept: Improvement over that of `all`; None where that did not run, or did not improve with
            its whole interval.
    """

    improvement: float
    seconds_per_step: float
    peak_memory_bytes: int
    low: float | None = None
    high: float | None = None
    step_ratio: float | None = None
    kept: float | None = None


@dataclass(frozen=True)
class ArmComparison:
    """How much more one arm improved than another, seed by seed, or than a random placement does.

    Attributes:
        difference: Mean over seeds.
        low, high: Ends of its interval (95 %): over seeds, or over random draws. None of fewer than
            three.
        verdict: ``better`` or ``worse`` where the interval leaves out 0; by rank among 19 random
            draws or more.
    """

    difference: float
    verdict: Verdict
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ArmResult:
    """One way to place adapters, and what it did.

    Attributes:
        name: What it is called.
        kind: What it is.
        blocks: Where its adapters are.
        rank: Their LoRA rank; where ranks differ, the smallest.
        adapter_parameters: Numbers in them.
        equal: Whether its adapters are as large as the budget says; `all` is larger.
        policy: The policy that chose the blocks, where one did.
        learning_rate: What the ladder chose; None where the arm failed.
        ladder: The rates that were tried.
        trials: One a seed.
        outcome: The trials together; None where the arm failed.
        place: Its position by improvement among the equal arms, 1 the best.
        against: Itself against the recommended arm.
        same_as: An arm before it with the very same adapters, whose trials these are.
        failed: Why there are no trials.
    """

    name: str
    kind: ArmKind
    blocks: tuple[PlacedBlock, ...]
    rank: int
    adapter_parameters: int
    equal: bool
    ladder: tuple[RateRung, ...]
    trials: tuple[Trial, ...]
    policy: str | None = None
    learning_rate: float | None = None
    outcome: Outcome | None = None
    place: int | None = None
    against: ArmComparison | None = None
    same_as: str | None = None
    failed: str | None = None


@dataclass(frozen=True)
class Budget:
    """What every equal arm was given.

    Attributes:
        layers: Blocks that a placement takes.
        rank: LoRA rank on them.
        adapter_parameters: Numbers in the adapters.
        tolerance: How far, relatively, an arm may be from that.
        steps: Optimizer steps.
        tokens: Tokens trained on that count in statistics, a number a seed.
    """

    layers: int
    rank: int
    adapter_parameters: int
    tolerance: float
    steps: int
    tokens: tuple[int, ...]


def _of_first_schema(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a measurement of the first schema with a note on what its verdict meant."""
    meant = (
        "made by an earlier rule: its verdict held the recommended placement against the mean of "
        "the random draws, whose differences from each other did not count; its intervals were of "
        "resampled seeds"
    )
    return {**plain, "notes": [*plain.get("notes", ()), meant]}


@dataclass(frozen=True)
class Measure(JsonRecord, FileRecord, DocumentRecord):
    """Rival placements fine-tuned at an equal budget.

    Attributes:
        model: What was fine-tuned.
        data: What it was fine-tuned on.
        card: What the card was made on that policies chose by.
        validation: Examples that scores are of.
        quality: What the improvement is in: ``loss`` (how far it fell), or what was named.
        higher_is_better: Whether a larger quality is a better model.
        before: The untouched model's quality.
        settings: The rest of how each arm was optimised.
        budget: What every equal arm was given.
        seeds: Of the scored trials: the same batches for every arm.
        ladder: The learning rates that each arm chose from.
        ladder_seed: Of the trials that chose; not among `seeds`.
        ladder_examples: Examples that the choice went by; none of them scores.
        arms: Every arm, the best improvement first, those that failed last.
        recommended: The name of the arm that the card recommends.
        verdict: The recommended arm against a random placement.
        against_random: The figures behind it; None without random draws.
        reason: The verdict in a sentence.
        notes: What was done otherwise than asked or by default.
    """

    SCHEMA = "layerwise/measure/2"
    FILE = "measure.json"
    DOCUMENT = "measure"
    OLDER: ClassVar = {"layerwise/measure/1": _of_first_schema}

    model: ModelInfo
    data: DataInfo
    card: DataInfo
    validation: int
    quality: str
    higher_is_better: bool
    before: float
    settings: TuneSettings
    budget: Budget
    seeds: tuple[int, ...]
    ladder: tuple[float, ...]
    ladder_seed: int
    ladder_examples: int
    arms: tuple[ArmResult, ...]
    recommended: str
    verdict: Verdict
    reason: str
    provenance: Provenance
    against_random: ArmComparison | None = None
    notes: tuple[str, ...] = ()

    def arm(self, name: str) -> ArmResult:
        """Return the arm called `name`.

        Raises:
            KeyError: There is none.
        """
        return {arm.name: arm for arm in self.arms}[name]
