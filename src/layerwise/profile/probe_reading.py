"""How the profiles of one study are taken: what is shown, and what is read off."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from layerwise.data.probes import probes as shipped
from layerwise.data.text import TextData, read
from layerwise.errors import UnknownNameError
from layerwise.models.load import LoadedModel
from layerwise.profile.changes import READOUTS
from layerwise.profile.make import BOOTSTRAP, make_profile
from layerwise.profile.record import Profile, Readout
from layerwise.profile.states import MAX_LENGTH, ProbeSet, States, make_probe_set, observe
from layerwise.progress import Progress, silent
from layerwise.provenance import Provenance
from layerwise.signals.similarity import COMPONENTS

__all__ = ["ProbeReading", "as_probe_set", "as_readout", "make_reading"]


@dataclass(frozen=True)
class ProbeReading:
    """How both states of a profile are taken, so that all profiles of a study can be compared.

    Attributes:
        probes: What the model is shown.
        readout: Which tensor stands for a depth in a profile's own fields.
        stack: The stack to follow; the last that reads text where None.
        batch_size: Probes in a forward.
        max_length: Tokens of a probe that are kept.
        bootstrap: Replicates over probes behind the slope's interval.
        pca_components: Components of the shared PCA.
        seed: Fixes the bootstrap and the halves; the same for all, so that they see one sample.
    """

    probes: ProbeSet
    readout: Readout = "hf"
    stack: str | None = None
    batch_size: int = 32
    max_length: int = MAX_LENGTH
    bootstrap: int = BOOTSTRAP
    pca_components: int = COMPONENTS
    seed: int = 0

    def states(
        self, loaded: LoadedModel, *, title: str = "probes", progress: Progress = silent
    ) -> States:
        """What `loaded` makes of the probes; see `layerwise.profile.states.observe`."""
        device = next(loaded.model.parameters()).device.type
        with _own_forward(loaded.model), torch.autocast(device, enabled=False):
            return observe(
                loaded,
                self.probes,
                stack=self.stack,
                batch_size=self.batch_size,
                max_length=self.max_length,
                title=title,
                progress=progress,
            )

    def profile(
        self,
        before: States,
        after: States,
        *,
        provenance: Provenance,
        untrained_modules: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> Profile:
        """What moved between two states; see `layerwise.profile.make.make_profile`."""
        return make_profile(
            before,
            after,
            self.probes,
            provenance=provenance,
            readout=self.readout,
            seed=self.seed,
            max_length=self.max_length,
            bootstrap=self.bootstrap,
            pca_components=self.pca_components,
            untrained_modules=untrained_modules,
            notes=notes,
        )


def make_reading(
    *,
    probes: str | TextData | Sequence[str] | None = None,
    readout: str = "hf",
    examples: int | None = None,
    seed: int = 0,
    **options: Any,
) -> ProbeReading:
    """The reading that a user means.

    Args:
        probes: What the models are shown; see `as_probe_set`.
        readout: Which tensor stands for a depth, by name.
        examples: The most probes to draw from a source that is named; None takes all.
        seed: Fixes that draw, the bootstrap and the halves.
        options: The other fields of `ProbeReading`.

    Raises:
        DataError: The probes cannot be read, or are too few.
        UnknownNameError: There is no such readout.
    """
    return ProbeReading(
        as_probe_set(probes, examples=examples, seed=seed),
        readout=as_readout(readout),
        seed=seed,
        **options,
    )


def as_probe_set(
    given: str | TextData | Sequence[str] | None, *, examples: int | None = None, seed: int = 0
) -> ProbeSet:
    """The probes that a user means: the package's own, a source of text, or texts in hand.

    Args:
        given: What the user gave.
        examples: The most to draw from a source that is named; None takes all.
        seed: Fixes the draw.

    Raises:
        DataError: The source cannot be read, or there are too few.
    """
    if given is None:
        return make_probe_set(shipped(), source="probes")
    found = read(given) if isinstance(given, str) else given
    if isinstance(given, str) and examples is not None and len(found) > examples:
        found = read(given, examples=examples, seed=seed)
    if isinstance(found, TextData):
        texts = [example.text for example in found.examples]
        return make_probe_set(texts, source=found.source, notes=found.notes)
    return make_probe_set(found, source="given")


def as_readout(name: str) -> Readout:
    """The readout called `name`.

    Raises:
        UnknownNameError: There is none.
    """
    for known in READOUTS:
        if name == known:
            return known
    kind = "readout"
    raise UnknownNameError(kind, value=name, known=READOUTS)


@contextmanager
def _own_forward(model: Any) -> Iterator[None]:
    """Inside, `model` computes in its own precision, whatever a trainer laid around its forward.

    For mixed precision, accelerate replaces the forward by one under autocast and leaves it there
    when training is over. Rounding would then be taken for change.
    """
    own = vars(model)
    laid = own.pop("forward", None) if "_original_forward" in own else None
    try:
        yield
    finally:
        if laid is not None:
            own["forward"] = laid
