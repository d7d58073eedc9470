"""Adapter placement as an intervention: do adapters do more where a model was seen to move?

As in arXiv 2604.17177: adapters on the blocks that moved most, on blocks evenly spread, and on
random ones, at ranks that give every arm about as many trainable parameters.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import pandas as pd

from layerwise.card.describe import model_info
from layerwise.card.record import ModelInfo
from layerwise.errors import BadInputError, SchemaError
from layerwise.measure.arms import ALL, Adapters, Arm
from layerwise.measure.record import ArmKind
from layerwise.measure.trial import Bench, Trial, train_rivals, trial
from layerwise.models.load import LoadedModel
from layerwise.models.stack import all_refs
from layerwise.models.targets import resolve_targets
from layerwise.placement.record import PlacedBlock, Placement
from layerwise.profile.record import Profile
from layerwise.progress import Progress, silent
from layerwise.provenance import Provenance, collect
from layerwise.records import JsonRecord, to_plain
from layerwise.seeds import draw
from layerwise.tuning.lora import RANK, placed_on


@dataclass(frozen=True)
class InterventionArm:
    """Adapters on some blocks.

    Attributes:
        name: ``plasticity``, ``uniform``, ``random-1`` and so on, or ``all``.
        blocks: The blocks, of the profile's stack.
        rank: LoRA's, scaled so that arms have about the same number of parameters.
        adapter_parameters: How many numbers train.
    """

    name: str
    blocks: tuple[int, ...]
    rank: int
    adapter_parameters: int


@dataclass(frozen=True)
class InterventionTrial:
    """One arm under one seed: the validation loss after, and by how much it fell."""

    arm: str
    seed: int
    loss: float
    improvement: float


@dataclass(frozen=True)
class Interventions(JsonRecord):
    """What adapters do on the blocks that moved most, and elsewhere.

    Attributes:
        model: The model, which is as it was.
        stack: The stack whose blocks are meant.
        source: Where the profile was measured: the model after.
        learning_rate: Of every trial.
        loss_before: The untouched model's validation loss.
        arms: Where adapters went.
        trials: A line an arm and seed; one seed sees the same batches in every arm.
        improvement: The mean fall of the validation loss of each arm, ``random`` over all draws.
        notes: What was done otherwise than asked.
    """

    SCHEMA = "layerwise/interventions/1"

    model: ModelInfo
    stack: str
    source: str
    learning_rate: float
    loss_before: float
    arms: tuple[InterventionArm, ...]
    trials: tuple[InterventionTrial, ...]
    improvement: Mapping[str, float]
    provenance: Provenance
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """Return a line an arm and seed, with the arm's rank and parameters."""
        known = {arm.name: arm for arm in self.arms}
        return pd.DataFrame(
            {
                **to_plain(t),
                "rank": known[t.arm].rank,
                "adapter_parameters": known[t.arm].adapter_parameters,
            }
            for t in self.trials
        )


def adapter_placement(
    bench: Bench,
    profile: Profile,
    *,
    blocks: int,
    rank: int = RANK,
    draws: int = 5,
    seeds: Sequence[int] = (0,),
    learning_rate: float = 2e-4,
    progress: Progress = silent,
) -> Interventions:
    """Return what adapters do on the `blocks` blocks that moved most, on spread and on random ones.

    `profile` says what moved when the model was fine-tuned before, on whatever task is asked about.
    `rank` is that of adapters on all blocks; those on fewer blocks have a higher one.

    Raises:
        SchemaError: The profile is of another model.
        BadInputError: There are not so many blocks to adapt, or a number cannot be used.
        NonFiniteError: A trial diverged.
    """
    arms = intervention_arms(
        bench.loaded, profile, blocks=blocks, rank=rank, draws=draws, seed=seeds[0]
    )
    placed = {arm.adapters: arm.placement for arm in arms if arm.placement}

    def train(adapters: Adapters, seed: int) -> Trial:
        return trial(bench, placed[adapters], seed=seed, learning_rate=learning_rate)

    made = train_rivals(placed, seeds, train, title="training adapters", progress=progress)
    falls: dict[str, list[float]] = {}
    shown, trials = [], []
    for arm in arms:
        where = placed[arm.adapters]
        indices = tuple(block.index for block in where.blocks)
        shown.append(InterventionArm(arm.name, indices, where.rank, where.adapter_parameters))
        for seed, found in made[arm.adapters].items():
            fall = found.loss_before - found.loss_after
            trials.append(InterventionTrial(arm.name, seed, found.loss_after, fall))
            falls.setdefault("random" if arm.kind == "random" else arm.name, []).append(fall)
    return Interventions(
        model=model_info(bench.loaded),
        stack=profile.stack,
        source=profile.after.source,
        learning_rate=learning_rate,
        loss_before=bench.loss_before,
        arms=tuple(shown),
        trials=tuple(trials),
        improvement={name: fmean(values) for name, values in falls.items()},
        provenance=collect(device=str(bench.loaded.device)),
        notes=tuple(bench.loaded.notes),
    )


def intervention_arms(
    loaded: LoadedModel,
    profile: Profile,
    *,
    blocks: int,
    rank: int = RANK,
    draws: int = 5,
    seed: int = 0,
) -> tuple[Arm, ...]:
    """Return the arms of the intervention; ``all`` blocks at `rank` come last.

    Raises:
        SchemaError: The profile is of another model.
        BadInputError: There are not so many blocks to adapt, or a number cannot be used.
    """
    adaptable = _adaptable(loaded, profile)
    if not 1 <= blocks <= len(adaptable):
        msg = "number of blocks"
        raise BadInputError(msg, value=blocks, expected=f"1 to {len(adaptable)}")
    budget = _placed(loaded, profile.stack, adaptable, rank).adapter_parameters
    made = []
    for name, kind, taken in _choices(profile, adaptable, blocks, draws, seed):
        one = _placed(loaded, profile.stack, taken, 1).adapter_parameters
        fitted = rank if name == ALL else max(1, round(budget / one))
        placed = replace(_placed(loaded, profile.stack, taken, fitted), policy=name)
        made.append(Arm(name, kind, placed))
    return tuple(made)


def _adaptable(loaded: LoadedModel, profile: Profile) -> list[int]:
    """Return the blocks of the profile's stack that have modules to adapt."""
    sizes = {stack.name: len(stack.blocks) for stack in loaded.stacks}
    if sizes.get(profile.stack) != len(profile.blocks):
        msg = "profile of another model"
        shown = f"{len(profile.blocks)} blocks of {profile.stack}"
        expected = ", ".join(f"{size} of {name}" for name, size in sizes.items())
        raise SchemaError(msg, value=shown, expected=expected)
    refs = all_refs(loaded.stacks)
    found = {refs[t.row] for t in resolve_targets(loaded.model, loaded.stacks, None)}
    return sorted(ref.index for ref in found if ref.stack == profile.stack)


def _choices(
    profile: Profile, adaptable: Sequence[int], blocks: int, draws: int, seed: int
) -> Iterator[tuple[str, ArmKind, list[int]]]:
    """Yield each arm's name, kind and blocks."""
    moved = {change.index: change.cka for change in profile.blocks}
    yield "plasticity", "policy", sorted(sorted(adaptable, key=lambda i: -moved[i])[:blocks])
    places = np.floor(np.linspace(0, len(adaptable) - 1, blocks) + 0.5).astype(int)
    yield "uniform", "policy", [adaptable[place] for place in places]
    for number in range(1, draws + 1):
        drawn = draw(len(adaptable), blocks, seed, "adapter placement", number)
        yield f"random-{number}", "random", sorted(adaptable[place] for place in drawn)
    yield ALL, "everywhere", list(adaptable)


def _placed(loaded: LoadedModel, stack: str, blocks: Sequence[int], rank: int) -> Placement:
    """Return LoRA on blocks, its scale alpha / rank the same at every rank."""
    places = [PlacedBlock(stack, index) for index in blocks]
    return placed_on(loaded, places, rank=rank, alpha=2 * rank)
