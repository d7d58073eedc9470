"""Probes and concept erasure by depth, from what a user names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layerwise.api.named import enough_memory, loaded_model, text_data
from layerwise.probing.record import Erasure, ErasureSettings, ProbeSettings, Probing
from layerwise.progress import Progress, silent

if TYPE_CHECKING:
    from layerwise.data import TextData
    from layerwise.probing.pairs import PairSet

__all__ = ["erase", "probe"]

_SMALLER = "a smaller --batch-size or --max-length"


def probe(  # noqa: PLR0913  # one keyword for each thing that a user may choose
    model: Any,
    data: "str | TextData",
    *,
    tokenizer: Any = None,
    readout: str = "hf",
    stack: str | None = None,
    examples: int | None = 1000,
    batch_size: int = 32,
    max_length: int = 128,
    epochs: int = 20,
    test_share: float = 0.2,
    seed: int = 0,
    text_column: str | None = None,
    label_column: str = "label",
    where: Sequence[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Probing:
    """How well the labels of `data` can be read from each depth of `model`; no weight moves.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or a model in hand.
        data: A file, folder, hub data set or ``demo``, with labels; or text read before.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        readout: Which tensor stands for a depth: ``hf``, ``residual`` or ``normed``.
        stack: The stack of blocks to follow; the last that reads text where None.
        examples: How many examples to draw from `data`; None takes all.
        batch_size: Texts in a forward; changes time and memory, not what is measured.
        max_length: Tokens that a text is cut at.
        epochs: Passes of a probe over its examples.
        test_share: Share of each class that probes are judged on, and not trained on.
        seed: Fixes the examples, the split, and the probes' weights, order and dropout.
        text_column: The column that holds the text; found by its name where None.
        label_column: The column of the class.
        where: ``COLUMN=VALUE`` conditions on the rows that are read.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: Whether code that a model's repository brings may run.
        progress: Hears how far the forward and the probes are.

    Raises:
        BadInputError: Something named cannot be used, or there is one class alone.
        NonFiniteError: A hidden state is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.objectives.classification import label_names
    from layerwise.probing.mean_states import ReadoutSettings
    from layerwise.probing.probe import make_probing
    from layerwise.profile.probe_reading import as_readout

    shown = ReadoutSettings(as_readout(readout), stack, batch_size, max_length)
    columns = {"text_column": text_column, "label_column": label_column, "where": where}
    text = text_data(data, examples=examples, seed=seed, **columns)
    label_names(text)  # One class alone is said before a model is loaded.
    how: dict[str, Any] = {"device": device, "dtype": dtype, "seed": seed}
    loaded = loaded_model(model, tokenizer, trust_remote_code=trust_remote_code, **how)
    settings = ProbeSettings(epochs=epochs, test_share=test_share, seed=seed)
    with enough_memory(_SMALLER):
        return make_probing(loaded, text, settings=settings, readout=shown, progress=progress)


def erase(  # noqa: PLR0913  # one keyword for each thing that a user may choose
    model: Any,
    pairs: "str | PairSet | Sequence[tuple[str, str]]",
    *,
    tokenizer: Any = None,
    readout: str = "hf",
    stack: str | None = None,
    examples: int | None = None,
    batch_size: int = 32,
    max_length: int = 64,
    folds: int = 5,
    draws: int = 20,
    standardise: bool = False,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Erasure:
    """By how much erasing what tells the members of `pairs` apart draws them together, by depth.

    Args:
        model: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; or a model in hand.
        pairs: A JSON Lines file of objects with the texts ``a`` and ``b``; ``demo``, the pairs
            that ship with the package; or pairs of texts.
        tokenizer: That of a transformers model in hand; read from where the model was if None.
        readout: Which tensor stands for a depth: ``hf``, ``residual`` or ``normed``.
        stack: The stack of blocks to follow; the last that reads text where None.
        examples: The most pairs to draw from a file; None takes all.
        batch_size: Texts in a forward; changes time and memory, not what is measured.
        max_length: Tokens that a text is cut at.
        folds: Parts of the pairs; each is judged under an eraser fitted on the others.
        draws: Random directions that the eraser is held against.
        standardise: Whether every feature counts alike, divided by its standard deviation; else
            distances are of the representation as it is.
        seed: Fixes the pairs drawn, the folds, the directions and the intervals.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: Whether code that a model's repository brings may run.
        progress: Hears how far the forward and the erasure are.

    Raises:
        BadInputError: Something named cannot be used; of a pair, its line is named.
        NonFiniteError: A hidden state is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.probing.erase import make_erasure
    from layerwise.probing.mean_states import ReadoutSettings
    from layerwise.profile.probe_reading import as_readout

    shown = ReadoutSettings(as_readout(readout), stack, batch_size, max_length)
    found = _pairs(pairs, examples=examples, seed=seed)
    how: dict[str, Any] = {"device": device, "dtype": dtype, "seed": seed}
    loaded = loaded_model(model, tokenizer, trust_remote_code=trust_remote_code, **how)
    settings = ErasureSettings(folds=folds, draws=draws, standardised=standardise, seed=seed)
    with enough_memory(_SMALLER):
        return make_erasure(loaded, found, settings=settings, readout=shown, progress=progress)


def _pairs(
    given: "str | PairSet | Sequence[tuple[str, str]]", *, examples: int | None, seed: int
) -> "PairSet":
    """The pairs that a user means."""
    from layerwise.probing.pairs import PairSet, given_pairs, read_pairs

    if isinstance(given, str):
        return read_pairs(given, examples=examples, seed=seed)
    return given if isinstance(given, PairSet) else given_pairs(given)
