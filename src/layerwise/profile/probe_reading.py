"""How the profiles of one study are taken: which probes are shown, and what is read off."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from layerwise.data.text import TextData, read
from layerwise.data.text import probes as shipped
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.models.load import LoadedModel
from layerwise.options.commands import BOOTSTRAP
from layerwise.options.groups import Readout
from layerwise.profile.changes import READOUTS, Resampling, measure_changes, readout_profile
from layerwise.profile.record import ProbeInfo, Profile, ReadoutProfile
from layerwise.profile.states import MAX_LENGTH, ProbeSet, States, make_probe_set, observe
from layerwise.progress import Progress, silent
from layerwise.provenance import Provenance
from layerwise.seeds import draw
from layerwise.signals.similarity import COMPONENTS


@dataclass(frozen=True)
class ProbeReading:
    """The way both states of a profile are taken, so that all profiles of a study can be compared.

    Fields are the options of `ProfileSettings`; `readout` is what stands for a depth in a profile's
    own fields, and `seed` fixes the bootstrap and the halves: all see one sample.
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
        """Return the states of `loaded` on the probes; see `layerwise.profile.states.observe`."""
        with _own_forward(loaded.model), torch.autocast(loaded.device.type, enabled=False):
            return observe(
                loaded,
                self.probes,
                stack=self.stack,
                batch_size=self.batch_size,
                max_length=self.max_length,
                title=title,
                progress=progress,
            )

    def profile(self, before: States, after: States, *, provenance: Provenance) -> Profile:
        """Return what moved from `before` to `after`, at every block and under every readout.

        Raises:
            BadInputError: The two cannot be compared, or a depth has no variance.
            NonFiniteError: A state is NaN or infinite.
        """
        probes = self.probes
        _refuse_different(before, after, probes)
        inputs = len(probes.texts)
        resampling = Resampling.draw(inputs, bootstrap=self.bootstrap, seed=self.seed)
        changes = measure_changes(before, after, resampling, components=self.pca_components)
        readouts: dict[str, ReadoutProfile] = {
            name: readout_profile(name, before, changes) for name in READOUTS
        }
        chosen = readouts[self.readout]
        return Profile(
            before=before.model,
            after=after.model,
            stack=before.stack,
            probes=ProbeInfo(
                source=probes.source,
                sha256=probes.sha256,
                inputs=inputs,
                tokens=sum(map(len, before.token_ids)),
                max_length=self.max_length,
                bootstrap=self.bootstrap,
                pca_components=self.pca_components,
                seed=self.seed,
                width=int(before.pooled["residual"].shape[-1]),
            ),
            readout=self.readout,
            **{f.name: getattr(chosen, f.name) for f in fields(ReadoutProfile)},
            readouts=readouts,
            provenance=provenance,
            notes=tuple(dict.fromkeys((*probes.notes, *before.notes, *after.notes))),
        )


def _refuse_different(before: States, after: States, probes: ProbeSet) -> None:
    """Raise where the two are not states of one architecture on the same tokens."""
    sizes = (
        ("stacks", before.stack, after.stack),
        ("numbers of blocks", before.blocks, after.blocks),
        ("widths", *(int(s.pooled["residual"].shape[-1]) for s in (before, after))),
        ("readouts", sorted(before.pooled), sorted(after.pooled)),
    )
    for what, first, second in sizes:
        if first != second:
            msg = f"models of different {what}"
            expected = f"{first}, as in {before.model.source}"
            hint = "two states of one model"
            raise BadInputError(msg, value=second, expected=expected, hint=hint)
    counts = {len(probes.texts), len(before.token_ids), len(after.token_ids)}
    if len(counts) > 1:
        msg = "states of another number of probes"
        expected = f"{len(probes.texts)}, as many as there are"
        raise BadInputError(msg, value=sorted(counts), expected=expected, hint="the same probes")
    for text, first_ids, second_ids in zip(
        probes.texts, before.token_ids, after.token_ids, strict=True
    ):
        if first_ids != second_ids:
            msg = f"models of different tokenizers: they read {text[:60]!r} as other tokens"
            expected = f"the {len(first_ids)} tokens of {before.model.source}"
            hint = "two states of one model, each saved with the tokenizer that it was trained with"
            raise BadInputError(msg, value=len(second_ids), expected=expected, hint=hint)


def make_reading(
    *,
    probes: Any = None,
    readout: str = "hf",
    examples: int | None = None,
    seed: int = 0,
    **options: Any,
) -> ProbeReading:
    """Return the reading that a user means by `probes`, `examples` (see `as_probe_set`) and fields.

    Raises:
        BadInputError: There is no such readout.
        DataError: The probes cannot be read, or are too few.
    """
    known = as_probe_set(probes, examples=examples, seed=seed)
    return ProbeReading(known, readout=as_readout(readout), seed=seed, **options)


def as_probe_set(probes: Any, *, examples: int | None = None, seed: int = 0) -> ProbeSet:
    """Return the probes that a user means: the package's own, a source of text, or texts in hand.

    Args:
        probes: A source, texts or data in hand, or None for the package's own.
        examples: The most to draw, of texts in hand all; None takes all.
        seed: Fixes the draw.

    Raises:
        DataError: The source cannot be read, or there are too few.
    """
    if probes is None:
        own = shipped()
        places = draw(len(own), len(own) if examples is None else examples, seed, "examples")
        return make_probe_set([own[place] for place in places], source="probes")
    is_texts = isinstance(probes, list | tuple) and all(isinstance(text, str) for text in probes)
    texts = probes if is_texts or isinstance(probes, TextData) else read(probes)
    if isinstance(probes, str | Path) and examples is not None and len(texts) > examples:
        texts = read(probes, examples=examples, seed=seed)
    if isinstance(texts, TextData):
        plain = [example.text for example in texts.examples]
        unseen = ("pictures of the probes are left out",) if texts.has_pictures else ()
        return make_probe_set(plain, source=texts.source, notes=(*texts.notes, *unseen))
    return make_probe_set(texts, source="given")


def as_readout(name: str) -> Readout:
    """Return the readout called `name`.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in READOUTS:
        raise UnknownNameError(what="readout", value=name, known=READOUTS)
    return name


@contextmanager
def _own_forward(model: Any) -> Iterator[None]:
    """Compute inside in the model's own precision, whatever a trainer laid around its forward.

    For mixed precision, accelerate replaces the forward by one under autocast and leaves it there
    when training is over. Rounding would then be taken for change.
    """
    own = vars(model)
    replaced = own.pop("forward", None) if "_original_forward" in own else None
    try:
        yield
    finally:
        if replaced is not None:
            own["forward"] = replaced
