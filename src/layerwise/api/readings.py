"""Readings of models that train nothing, from what a user names."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from layerwise.api.named import SMALLER_BATCH, known_card, loaded_model, text_data
from layerwise.options.commands import (
    AuditOptions,
    DistanceOptions,
    EraseOptions,
    ProbeOptions,
    ProfileOptions,
    ProfileSettings,
)
from layerwise.options.declaration import pick
from layerwise.options.groups import Batches, Loading
from layerwise.options.signature import takes_options
from layerwise.progress import Progress, silent
from layerwise.resources import enough_memory

if TYPE_CHECKING:
    from layerwise.distance.record import Distance
    from layerwise.probing.pairs import PairSet
    from layerwise.probing.record import Erasure, Probing
    from layerwise.profile.audit_record import Audit
    from layerwise.profile.record import Profile


@takes_options
def profile(
    before: Any,
    after: Any,
    *,
    tokenizer: Any = None,
    progress: Progress = silent,
    **options: Unpack[ProfileOptions],
) -> "Profile":
    """Return what moved from `before` to `after`, at which depth, and how surely.

    Where `after` is an adapter on `before`, its `audit` says what the adapter is.

    Args:
        before: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; a model in hand; or
            the states of one, from `layerwise.profile.states.observe`. None where `after` is an
            adapter: its base.
        after: The same, or what `tune` returned. An adapter goes onto the base's own weights,
            unmerged; adapters on a model in hand are switched off to read the base.
        tokenizer: That of transformers models in hand; read from where each was if None.
        progress: Hears how far each forward is.
        options: Those of `layerwise.options.commands.ProfileOptions`.

    Raises:
        BadInputError: The two cannot be compared, or there is a card and no adapter; the message
            says what to type.
        SchemaError: The card cannot be read, or is of another model.
        NonFiniteError: A hidden state is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.models.load import load
    from layerwise.profile.compare_states import in_hand, read_pair
    from layerwise.profile.probe_reading import make_reading

    reading, card = make_reading(**pick(ProfileSettings, options)), options["card"]
    pair = read_pair(
        in_hand(before, tokenizer),
        in_hand(after, tokenizer),
        reading=reading,
        load=partial(load, **pick(Loading, options)),
        progress=progress,
        audit=True,
        card=None if card is None else known_card(card),
        verify=options["verify"],
    )
    return pair.profile(reading)


@takes_options
def audit(
    adapter: Any,
    *,
    tokenizer: Any = None,
    progress: Progress = silent,
    **options: Unpack[AuditOptions],
) -> "Audit":
    """Return what an adapter is: its size by depth, the rank that it uses, what in it is dead.

    Its base, which its configuration names, is loaded for the size of the weights that are adapted
    and for what the adapter adds to outputs on the probes. Where no base is to be had, its files
    alone are read, and the notes say what they do not tell.

    Args:
        adapter: A PEFT adapter folder or hub id; or a model in hand with adapters.
        tokenizer: That of a model in hand; read from where the model was if None.
        progress: Hears how far the forward on the probes is.
        options: Those of `layerwise.options.commands.AuditOptions`.

    Raises:
        BadInputError: It is no adapter, or there is a card and no base.
        ModelError: The adapter or its base cannot be read, or do not fit.
        SchemaError: The card cannot be read, or is of another model.
        NonFiniteError: A weight of the adapter is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.models.load import load
    from layerwise.profile.audit_adapter import audit_adapter
    from layerwise.profile.probe_reading import ProbeReading, as_probe_set

    probes = as_probe_set(options["probes"], examples=options["examples"], seed=options["seed"])
    card = options["card"]
    return audit_adapter(
        adapter,
        reading=ProbeReading(probes, **pick(Batches, options)),
        load=partial(load, **pick(Loading, options)),
        card=None if card is None else known_card(card),
        verify=options["verify"],
        tokenizer=tokenizer,
        progress=progress,
    )


@takes_options
def distance(
    model: Any,
    data: Any,
    *,
    tokenizer: Any = None,
    progress: Progress = silent,
    **options: Unpack[DistanceOptions],
) -> "Distance":
    """Return how far apart objectives are at `model`, by their gradients on the same text.

    Nothing is trained.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or a model in hand.
        data: A file, folder, hub data set or ``demo``; or strings, mappings, a data set, a frame or
            a loader of batches in hand; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        progress: Hears how far the pass is.
        options: Those of `layerwise.options.commands.DistanceOptions`. SimCSE and Barlow Twins
            compare the texts of a batch, so its size changes their numbers.

    Raises:
        BadInputError: Something named cannot be used; the message says what to type.
        NonFiniteError: A gradient is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.distance.choose import choose
    from layerwise.distance.make import make_distance
    from layerwise.objectives import OBJECTIVES

    objectives, reference = options["objectives"], options["reference"]
    for name in (*(objectives or ()), *filter(None, [reference])):
        OBJECTIVES[name]  # A name that is wrong is said before a model is loaded.
    text = text_data(data, options)
    loaded = loaded_model(model, tokenizer, options)
    chosen = choose(loaded, text, objectives=objectives, reference=reference)
    how = {**pick(Batches, options), "seed": options["seed"]}
    with enough_memory(SMALLER_BATCH):
        return make_distance(loaded, text, chosen, progress=progress, **how)


@takes_options
def probe(
    model: Any,
    data: Any,
    *,
    tokenizer: Any = None,
    progress: Progress = silent,
    **options: Unpack[ProbeOptions],
) -> "Probing":
    """Return how well the labels of `data` can be read from each depth of `model`.

    No weight moves.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or a model in hand.
        data: A file, folder, hub data set or ``demo``, with labels; or data in hand, as for `card`;
            or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        progress: Hears how far the forward and the probes are.
        options: Those of `layerwise.options.commands.ProbeOptions`.

    Raises:
        BadInputError: Something named cannot be used, or there is one class alone.
        NonFiniteError: A hidden state is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.objectives.classification import label_names
    from layerwise.probing.mean_states import ReadoutSettings
    from layerwise.probing.probe import make_probing
    from layerwise.probing.record import ProbeSettings

    text = text_data(data, options)
    label_names(text)  # One class alone is said before a model is loaded.
    loaded = loaded_model(model, tokenizer, options)
    settings = ProbeSettings(
        epochs=options["epochs"], test_share=options["test_share"], seed=options["seed"]
    )
    shown = ReadoutSettings(**pick(ReadoutSettings, options))
    with enough_memory(SMALLER_BATCH):
        return make_probing(loaded, text, settings=settings, readout=shown, progress=progress)


@takes_options
def erase(
    model: Any,
    pairs: "Path | str | PairSet | Iterable[Sequence[str] | Mapping[str, str]]",
    *,
    tokenizer: Any = None,
    progress: Progress = silent,
    **options: Unpack[EraseOptions],
) -> "Erasure":
    """Return by how much erasing what tells `pairs` apart draws them together, by depth.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or a model in hand.
        pairs: A JSON Lines file of objects with the texts ``a`` and ``b``; ``demo``, the pairs
            that ship with the package; or pairs of texts, or mappings with ``a`` and ``b``.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        progress: Hears how far the forward and the erasure are.
        options: Those of `layerwise.options.commands.EraseOptions`.

    Raises:
        BadInputError: Something named cannot be used; of a pair, its line is named.
        NonFiniteError: A hidden state is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.probing.erase import make_erasure
    from layerwise.probing.mean_states import ReadoutSettings
    from layerwise.probing.pairs import PairSet, given_pairs, read_pairs
    from layerwise.probing.record import ErasureSettings

    seed = options["seed"]
    if isinstance(pairs, str | Path):
        pairs = read_pairs(str(pairs), examples=options["examples"], seed=seed)
    found = pairs if isinstance(pairs, PairSet) else given_pairs(pairs)
    loaded = loaded_model(model, tokenizer, options)
    how = pick(ErasureSettings, options)
    settings = ErasureSettings(standardised=options["standardise"], **how)
    shown = ReadoutSettings(**pick(ReadoutSettings, options))
    with enough_memory(SMALLER_BATCH):
        return make_erasure(loaded, found, settings=settings, readout=shown, progress=progress)
