"""Depth profiles, from what a user names."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.card.record import LayerCard
from layerwise.models.load import LoadedModel, load
from layerwise.profile.record import Profile
from layerwise.progress import Progress, silent
from layerwise.provenance import collect

if TYPE_CHECKING:
    from layerwise.data import TextData

__all__ = ["profile"]


def profile(  # noqa: PLR0913  # one keyword for each thing that a user may choose
    before: Any,
    after: Any,
    *,
    probes: "str | TextData | Sequence[str] | None" = None,
    readout: str = "hf",
    stack: str | None = None,
    examples: int | None = 290,
    seed: int = 0,
    batch_size: int = 32,
    max_length: int = 64,
    bootstrap: int = 1000,
    pca_components: int = 256,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    card: LayerCard | Path | str | None = None,
    progress: Progress = silent,
) -> Profile:
    """What moved from `before` to `after`, at which depth, and how surely.

    Where `after` is an adapter on `before`, its `audit` says what the adapter is.

    Args:
        before: A hub id, folder, GGUF file, PEFT adapter folder or ``demo``; a model in hand; or
            the states of one, from `layerwise.profile.states.observe`. None where `after` is an
            adapter: its base.
        after: The same, or what `tune` returned. An adapter goes onto the base's own weights,
            unmerged; adapters on a model in hand are switched off to read the base.
        probes: What both are shown: a source of text, texts, or None for the 290 that ship.
        readout: Which tensor stands for a depth in the record's own fields: ``hf``, ``residual``
            or ``normed``. All three are in its `readouts`.
        stack: The stack of blocks to follow; the last that reads text where None.
        examples: The most probes to draw from a source that `probes` names; None takes all.
        seed: Fixes that draw, the bootstrap and the split halves.
        batch_size: Probes in a forward; changes time and memory, not what is measured.
        max_length: Tokens that a probe is cut at.
        bootstrap: Replicates over probes behind the slope's interval.
        pca_components: Components of the shared PCA.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: Whether code that a model's repository brings may run.
        card: A Layer Card of the model before, or where it lies: what it would have placed stands
            in the audit, beside where the adapter is.
        progress: Hears how far each forward is.

    Raises:
        BadInputError: The two cannot be compared, or there is a card and no adapter; the message
            says what to type.
        SchemaError: The card cannot be read, or is of another model.
        NonFiniteError: A hidden state is NaN or infinite.
        LayerwiseError: The device ran out of memory.
    """
    from layerwise.profile.compare_states import AuditRequest, read_pair
    from layerwise.profile.probe_reading import make_reading

    reading = make_reading(
        probes=probes,
        readout=readout,
        examples=examples,
        stack=stack,
        batch_size=batch_size,
        max_length=max_length,
        bootstrap=bootstrap,
        pca_components=pca_components,
        seed=seed,
    )

    how: dict[str, Any] = {"device": device, "dtype": dtype, "trust_remote_code": trust_remote_code}

    def loaded(source: str, *, labels: Sequence[str] | None = None) -> LoadedModel:
        return load(source, labels=labels, **how)

    known = LayerCard.load(Path(card)) if isinstance(card, str | Path) else card
    pair = read_pair(
        before,
        after,
        reading=reading,
        load=loaded,
        progress=progress,
        auditing=AuditRequest(known),
    )
    made = reading.profile(
        pair.before,
        pair.after,
        provenance=collect(device=pair.device),
        untrained_modules=pair.untrained_modules,
        notes=pair.notes,
    )
    return replace(made, audit=pair.audit)
