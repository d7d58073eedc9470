"""Depth profiles, from what a user names."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from layerwise.options.commands import ProfileOptions, ProfileSettings
from layerwise.options.declaration import pick
from layerwise.options.groups import Loading
from layerwise.options.signature import takes_options
from layerwise.progress import Progress, silent

if TYPE_CHECKING:
    from layerwise.models.load import LoadedModel
    from layerwise.profile.record import Profile

__all__ = ["profile"]


@takes_options
def profile(
    before: Any, after: Any, *, progress: Progress = silent, **options: Unpack[ProfileOptions]
) -> "Profile":
    """Return what moved from `before` to `after`, at which depth, and how surely.

    Where `after` is an adapter on `before`, its `audit` says what the adapter is.

    Args:
        before: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; a model in hand; or
            the states of one, from `layerwise.profile.states.observe`. None where `after` is an
            adapter: its base.
        after: The same, or what `tune` returned. An adapter goes onto the base's own weights,
            unmerged; adapters on a model in hand are switched off to read the base.
        progress: Hears how far each forward is.
        options: Those of `layerwise.options.commands.ProfileOptions`.

    Raises:
        BadInputError: The two cannot be compared, or there is a card and no adapter; the message
            says what to type.
        SchemaError: The card cannot be read, or is of another model.
        NonFiniteError: A hidden state is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.card.record import LayerCard
    from layerwise.models.load import load
    from layerwise.profile.compare_states import read_pair
    from layerwise.profile.probe_reading import make_reading

    how, card = pick(Loading, options), options["card"]

    def loaded(source: str, *, labels: Sequence[str] | None = None) -> "LoadedModel":
        return load(source, labels=labels, **how)

    reading = make_reading(**pick(ProfileSettings, options))
    known = LayerCard.load(Path(card)) if isinstance(card, str | Path) else card
    pair = read_pair(
        before,
        after,
        reading=reading,
        load=loaded,
        progress=progress,
        audit=True,
        card=known,
    )
    return pair.profile(reading)
