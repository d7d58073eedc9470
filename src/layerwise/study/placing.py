"""Where a run's adapters go: on blocks by name, or where a card of the very model says."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from layerwise.capture import plan
from layerwise.card.make import make_card
from layerwise.data.text import TextData
from layerwise.errors import BadInputError
from layerwise.files import write_atomic
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.options.declaration import declared
from layerwise.options.stages import PlacementSettings
from layerwise.placement import POLICIES
from layerwise.placement.exports.lora import refuse_whole
from layerwise.placement.place import place
from layerwise.placement.record import Placement
from layerwise.placement.rows import parse_rows
from layerwise.tuning.lora import named_placement, placed_on
from layerwise.tuning.material import gather, held_out
from layerwise.tuning.record import TuneSettings

log = logging.getLogger(__name__)

#: The file, in a run's folder, of a placement that a card was made for.
PLACEMENT = "placement.json"
#: Examples in a forward of the card's pass (ours).
_BATCH = 8


def placement_settings(described: Mapping[str, Any]) -> PlacementSettings:
    """Return the settings of a placement that a study's mapping describes.

    Raises:
        BadInputError: It names both blocks and a policy, or describes a card that nobody needs.
        UnknownNameError: There is no such policy.
    """
    options = declared(PlacementSettings)
    found: dict[str, Any] = {name: o.default for name, o in options.items()} | dict(described)
    if found["policy"] is None:
        for name in ("layers", "examples"):
            if name in described:
                message = f"{name} of a placement without a policy"
                raise BadInputError(message, value=described[name], hint=f"drop {name}")
    elif found["blocks"] is not None:
        message = "placement with both blocks and a policy"
        raise BadInputError(message, value=found["policy"], expected="one or the other")
    else:
        POLICIES[found["policy"]]
    return cast(PlacementSettings, found)


def check_placement(described: Any, loaded: LoadedModel) -> None:
    """Raise unless `described` fits `loaded`, which needs no weights for it.

    Raises:
        BadInputError: It does not.
        PlacementError: A block is not there, or has no module to adapt.
        UnknownNameError: There is no such policy or module.
    """
    if isinstance(described, Mapping):
        _by_name(placement_settings(described), loaded)
    else:
        found = named_placement(described, loaded)
        if found is not None:  # The conditions that a study has placements for train adapters.
            refuse_whole(found)


def _by_name(asked: PlacementSettings, loaded: LoadedModel) -> Placement:
    """Return adapters on the blocks that are named, on all where none is."""
    return placed_on(
        loaded,
        None if asked["blocks"] is None else parse_rows(asked["blocks"]),
        rank=asked["rank"],
        alpha=asked["alpha"],
        dropout=asked["dropout"],
        targets=asked["targets"],
    )


def placed(
    described: Any,
    loaded: LoadedModel,
    text: TextData,
    objective: Objective,
    *,
    settings: TuneSettings,
    folder: Path,
) -> Placement | None:
    """Return where the adapters of a run go; None where the study does not say.

    The card of a policy and its placement are kept in `folder`, and the placement is taken from
    there where a run is taken up: timings, which a policy may go by, differ each time. What of
    `text` is held out for evaluation is not looked at.
    """
    if not isinstance(described, Mapping):
        return named_placement(described, loaded)
    asked = placement_settings(described)
    if asked["policy"] is None:
        return _by_name(asked, loaded)
    if (folder / PLACEMENT).exists():
        return Placement.load(folder)
    train = gather(loaded, text, objective, settings).train
    if asked["examples"] < len(train):
        _, train = held_out(train, examples=asked["examples"], seed=settings.seed)
    card = make_card(
        loaded,
        train,
        objective,
        plan(rank=asked["rank"], targets=asked["targets"], seed=settings.seed),
        batch_size=min(_BATCH, settings.batch_size),
        max_length=settings.length,
    )
    card.save(folder)
    made = place(
        card,
        policy=asked["policy"],
        layers=asked["layers"],
        rank=asked["rank"],
        alpha=asked["alpha"],
        seed=settings.seed,
    )
    log.info("%s chose %s", asked["policy"], ", ".join(str(b.index) for b in made.blocks))
    made = replace(made, dropout=asked["dropout"])
    write_atomic(folder / PLACEMENT, made.to_json())
    return made
