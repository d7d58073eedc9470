"""The conditions of fine-tuning: what is frozen, and at which rate the rest moves.

As in arXiv 2604.17177, and `top-m`. A condition is data: which parameters stay as they are, by what
factor each of the others' learning rate is scaled, whether LoRA takes the weights' place, and
whether every layer group makes the same relative step.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerwise.errors import BadInputError
from layerwise.registry import Registry

if TYPE_CHECKING:  # The names of the conditions are read without torch, for help texts.
    from layerwise.models.roles import ParameterRole
    from layerwise.models.stack import Stack
    from layerwise.tuning.record import TuneSettings


@dataclass(frozen=True)
class Place:
    """Where a parameter is, as a condition sees it.

    Attributes:
        role: What the parameter is for.
        index: Its block's index in its stack; None outside blocks.
        blocks: How many blocks that stack has; outside blocks, those of the deepest stack.
    """

    role: "ParameterRole"
    index: int | None
    blocks: int


def places(roles: "Sequence[ParameterRole]", stacks: "Sequence[Stack]") -> tuple[Place, ...]:
    """Return the place of each parameter of a model with these `stacks`."""
    from layerwise.models.stack import all_refs

    refs = all_refs(stacks)
    sizes = Counter(ref.stack for ref in refs)
    deepest = max(sizes.values())
    return tuple(
        Place(role, None, deepest)
        if role.row is None
        else Place(role, refs[role.row].index, sizes[refs[role.row].stack])
        for role in roles
    )


Frozen = Callable[[Place, "TuneSettings"], bool]
Factor = Callable[[Place, "TuneSettings"], float]


@dataclass(frozen=True)
class Condition:
    """One way to optimise.

    Attributes:
        name: What a user types.
        summary: What it does, in a line.
        rate: Learning rate where none is given.
        frozen: Whether a parameter stays as it is.
        factor: What a parameter's learning rate is multiplied by.
        adapters: Whether LoRA adapters train in the weights' place.
        equal_step: Whether every layer group makes the same relative step.
        reads: Settings that only this condition reads.
        rule: Which rule the name stands for, where it was another once: a checkpoint or a study's
            run under that one is of another run. None where there was one alone.
    """

    name: str
    summary: str
    rate: float = 2e-5
    frozen: Frozen = lambda _place, _settings: False
    factor: Factor = lambda _place, _settings: 1.0
    adapters: bool = False
    equal_step: bool = False
    reads: frozenset[str] = frozenset()
    rule: int | None = None

    def trained(self, where: Sequence[Place], settings: "TuneSettings") -> Mapping[str, float]:
        """Return the learning rate factor of each parameter that trains, by name.

        Raises:
            BadInputError: The condition leaves nothing to train, or needs a setting.
        """
        kept = {
            place.role.name: self.factor(place, settings)
            for place in where
            if not self.frozen(place, settings)
        }
        if not kept:
            message = f"condition {self.name} freezes every parameter of this model"
            raise BadInputError(message, expected="something to train", hint="another --condition")
        return kept


CONDITIONS = Registry[Condition]("condition")


def _decayed(place: Place, settings: "TuneSettings") -> float:
    """Decay per block from the top down; embeddings with the bottom block, heads with the top."""
    if place.index is not None:
        return float(settings.decay ** (place.blocks - 1 - place.index))
    return float(settings.decay ** (place.blocks - 1)) if place.role.embeds else 1.0


def _below_top(place: Place, settings: "TuneSettings") -> bool:
    top = settings.top
    if top is None or not 0 < top <= place.blocks:
        hint = f"--top M, with M from 1 to {place.blocks}"
        message = "number of top blocks to train"
        raise BadInputError(message, value=top, expected=f"1 to {place.blocks}", hint=hint)
    return place.role.embeds if place.index is None else place.index < place.blocks - top


for _condition in (
    Condition(
        name="standard",
        summary="all weights, learning rate decaying from the top block down",
        factor=_decayed,
        reads=frozenset({"decay"}),
    ),
    Condition(name="uniform", summary="all weights at one learning rate"),
    Condition(
        name="lora",
        summary="LoRA adapters on all blocks, or where a placement says",
        rate=2e-4,
        adapters=True,
    ),
    Condition(
        name="frozen-norm",
        summary="all weights but those of normalisation layers",
        frozen=lambda place, _: place.role.role == "norm",
    ),
    Condition(
        name="frozen-lower",
        summary="the upper half of the blocks, the embeddings and the head",
        frozen=lambda place, _: place.index is not None and place.index < place.blocks // 2,
        rule=2,
    ),
    Condition(
        name="equal-step",
        summary="all weights, every block's relative step the same",
        equal_step=True,
        reads=frozenset({"tau", "match_steps", "equal_step"}),
    ),
    Condition(
        name="top-m",
        summary="the top M blocks, and the head",
        frozen=_below_top,
        reads=frozenset({"top"}),
    ),
):
    CONDITIONS.add(_condition)
