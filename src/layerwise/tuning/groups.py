"""The parameters of a model in layer groups: one a block, one for everything else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from layerwise.errors import BadInputError, SchemaError
from layerwise.models.heads import head_modules
from layerwise.models.load import LoadedModel
from layerwise.models.roles import ParameterRole, roles
from layerwise.models.stack import Stack, all_refs
from layerwise.objectives.forward import without_adapter
from layerwise.placement.record import Placement

REST = "rest"
"""The group of what lies in no block: embeddings, final norm, heads."""


@dataclass(frozen=True)
class LayerGroup:
    """Parameters that are taken together.

    Attributes:
        name: The block's qualified name in the model without adapters, or ``rest``.
        row: The block's position among the blocks of all stacks; None for the rest.
        parameters: Qualified names; a tied weight is in one group, once.
        module: The block's qualified name in the model as it is; empty for the rest.
        above: Those of the rest that lie over every block: final norm and head.
    """

    name: str
    row: int | None
    parameters: tuple[str, ...]
    module: str = ""
    above: tuple[str, ...] = ()


def layer_groups(model: nn.Module, stacks: Sequence[Stack]) -> tuple[LayerGroup, ...]:
    """Return a group for each block, from the input to the output, and the rest last.

    Together they hold every parameter of `model` once. A group may be empty: a block without
    parameters, or a model that is nothing but blocks.
    """
    members: dict[int | None, list[ParameterRole]] = {}
    for role in roles(model, stacks):
        members.setdefault(role.row, []).append(role)
    base = without_adapter(model)
    held = next(name for name, module in model.named_modules() if module is base)
    wrapped = f"{held}." if held else ""  # What an adapter's wrapper puts before all names.
    blocks = (
        LayerGroup(ref.name.removeprefix(wrapped), row, _names(members.get(row, ())), ref.name)
        for row, ref in enumerate(all_refs(stacks))
    )
    rest = members.get(None, ())
    beneath = _beneath(stacks)
    above = [r for r in rest if not (r.embeds or r.name.startswith(beneath))]
    return (*blocks, LayerGroup(REST, None, _names(rest), above=_names(above)))


def in_blocks(
    factors: Mapping[str, float], placement: Placement, loaded: LoadedModel
) -> Mapping[str, float]:
    """Return those of `factors`, by parameter, in the placement's blocks or in a head for classes.

    The head may be new, and blocks trained under it as it is would be of no use.

    Raises:
        SchemaError: The placement is for another model.
        BadInputError: Nothing of these blocks is left to train.
    """
    names = {(ref.stack, ref.index): ref.name for ref in all_refs(loaded.stacks)}
    places = [(block.stack, block.index) for block in placement.blocks]
    if lacking := [f"{stack}.{n}" for stack, n in places if (stack, n) not in names]:
        expected = f"one for {loaded.source}, which has no {lacking[0]}"
        message = "placement for another model"
        raise SchemaError(message, value=placement.model, expected=expected)
    inside = tuple(f"{names[place]}." for place in places)
    if not any(name.startswith(inside) for name in factors):
        message = "condition that freezes every block of the placement"
        value = ", ".join(names[place] for place in places)
        raise BadInputError(message, value=value, hint="another --condition")
    kept = (*inside, *(f"{head}." for head in head_modules(loaded.model)))
    return {name: factor for name, factor in factors.items() if name.startswith(kept)}


def _beneath(stacks: Sequence[Stack]) -> tuple[str, ...]:
    """Return where an encoder lies, whose final norm is beneath its decoder."""
    encoders = [s.name.rpartition(".")[0] for s in stacks if s.side == "encoder"]
    return tuple(f"{name}." for name in encoders) if len({s.side for s in stacks}) > 1 else ()


def _names(roles: Sequence[ParameterRole]) -> tuple[str, ...]:
    return tuple(role.name for role in roles)
