"""Probes and concept erasure by depth, from what a user names."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from layerwise.api.named import SMALLER_BATCH, enough_memory, loaded_model, text_data
from layerwise.options.commands import EraseOptions, ProbeOptions
from layerwise.options.signature import takes_options
from layerwise.progress import Progress, silent

if TYPE_CHECKING:
    from layerwise.data.text import TextData
    from layerwise.probing.mean_states import ReadoutSettings
    from layerwise.probing.pairs import PairSet
    from layerwise.probing.record import Erasure, Probing

__all__ = ["erase", "probe"]


@takes_options
def probe(
    model: Any,
    data: "str | TextData",
    *,
    tokenizer: Any = None,
    progress: Progress = silent,
    **options: Unpack[ProbeOptions],
) -> "Probing":
    """Return how well the labels of `data` can be read from each depth of `model`.

    No weight moves.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or a model in hand.
        data: A file, folder, hub data set or ``demo``, with labels; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        progress: Hears how far the forward and the probes are.
        options: Those of `layerwise.options.commands.ProbeOptions`.

    Raises:
        BadInputError: Something named cannot be used, or there is one class alone.
        NonFiniteError: A hidden state is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.objectives.classification import label_names
    from layerwise.probing.probe import make_probing
    from layerwise.probing.record import ProbeSettings

    shown = _shown(options)
    text = text_data(data, options)
    label_names(text)  # One class alone is said before a model is loaded.
    loaded = loaded_model(model, tokenizer, options)
    settings = ProbeSettings(
        epochs=options["epochs"], test_share=options["test_share"], seed=options["seed"]
    )
    with enough_memory(SMALLER_BATCH):
        return make_probing(loaded, text, settings=settings, readout=shown, progress=progress)


@takes_options
def erase(
    model: Any,
    pairs: "str | PairSet | Sequence[tuple[str, str]]",
    *,
    tokenizer: Any = None,
    progress: Progress = silent,
    **options: Unpack[EraseOptions],
) -> "Erasure":
    """Return by how much erasing what tells `pairs` apart draws them together, by depth.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or a model in hand.
        pairs: A JSON Lines file of objects with the texts ``a`` and ``b``; ``demo``, the pairs
            that ship with the package; or pairs of texts.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        progress: Hears how far the forward and the erasure are.
        options: Those of `layerwise.options.commands.EraseOptions`.

    Raises:
        BadInputError: Something named cannot be used; of a pair, its line is named.
        NonFiniteError: A hidden state is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.probing.erase import make_erasure
    from layerwise.probing.pairs import PairSet, given_pairs, read_pairs
    from layerwise.probing.record import ErasureSettings

    shown, seed = _shown(options), options["seed"]
    if isinstance(pairs, str):
        pairs = read_pairs(pairs, examples=options["examples"], seed=seed)
    found = pairs if isinstance(pairs, PairSet) else given_pairs(pairs)
    loaded = loaded_model(model, tokenizer, options)
    settings = ErasureSettings(
        folds=options["folds"],
        draws=options["draws"],
        standardised=options["standardise"],
        seed=seed,
    )
    with enough_memory(SMALLER_BATCH):
        return make_erasure(loaded, found, settings=settings, readout=shown, progress=progress)


def _shown(options: Mapping[str, Any]) -> "ReadoutSettings":
    """Return how texts are shown to the model."""
    from layerwise.probing.mean_states import ReadoutSettings

    return ReadoutSettings(
        options["readout"], options["stack"], options["batch_size"], options["max_length"]
    )
