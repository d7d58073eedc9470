"""Two states of one model in, a `Profile` out."""

from collections.abc import Sequence

from layerwise.errors import BadInputError
from layerwise.profile.changes import READOUTS, Resampling, measure_changes, readout_profile
from layerwise.profile.record import ProbeInfo, Profile, Readout, ReadoutProfile
from layerwise.profile.states import ProbeSet, States
from layerwise.provenance import Provenance
from layerwise.signals.similarity import COMPONENTS

__all__ = ["BOOTSTRAP", "make_profile"]

#: Bootstrap replicates: enough for a 95 % interval whose ends move by a percent (ours).
BOOTSTRAP = 1000


def make_profile(  # noqa: PLR0913  # one keyword for each thing that the record says
    before: States,
    after: States,
    probes: ProbeSet,
    *,
    provenance: Provenance,
    readout: Readout = "hf",
    seed: int = 0,
    max_length: int = 64,
    bootstrap: int = BOOTSTRAP,
    pca_components: int = COMPONENTS,
    untrained_modules: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Profile:
    """What moved from `before` to `after`, at every block and under every readout.

    Args:
        before: The states of the model before.
        after: Those of the model after, on the same probes.
        probes: What both were shown.
        provenance: What makes the record.
        readout: Which tensor stands for a depth in the record's own fields.
        seed: Fixes the bootstrap and the halves.
        max_length: Tokens at which the probes were cut.
        bootstrap: Replicates over probes behind the slope's interval.
        pca_components: Components of the shared PCA.
        untrained_modules: Modules whose adapter never trained.
        notes: What was done otherwise than asked.

    Raises:
        BadInputError: The two cannot be compared, or a depth has no variance.
        NonFiniteError: A state is NaN or infinite.
    """
    _refuse_different(before, after, probes)
    resampling = Resampling.draw(len(probes.texts), bootstrap=bootstrap, seed=seed)
    found = measure_changes(before, after, resampling, components=pca_components)
    readouts: dict[str, ReadoutProfile] = {
        name: readout_profile(name, before, found) for name in READOUTS
    }
    shown = readouts[readout]
    return Profile(
        before=before.model,
        after=after.model,
        stack=before.stack,
        probes=ProbeInfo(
            source=probes.source,
            sha256=probes.sha256,
            inputs=len(probes.texts),
            tokens=sum(map(len, before.token_ids)),
            max_length=max_length,
            bootstrap=bootstrap,
            pca_components=pca_components,
            seed=seed,
        ),
        readout=readout,
        depths=shown.depths,
        blocks=shown.blocks,
        slope=shown.slope,
        slope_low=shown.slope_low,
        slope_high=shown.slope_high,
        cka_slope=shown.cka_slope,
        rsa_slope=shown.rsa_slope,
        width=shown.width,
        noise_floor=shown.noise_floor,
        readouts=readouts,
        provenance=provenance,
        untrained_modules=tuple(untrained_modules),
        notes=tuple(dict.fromkeys((*probes.notes, *before.notes, *after.notes, *notes))),
    )


def _refuse_different(before: States, after: States, probes: ProbeSet) -> None:
    """Raise where the two are not states of one architecture on the same tokens.

    Raises:
        BadInputError: They differ in stack, blocks, width, tokens or final norm.
    """
    sizes = (
        ("stacks", before.stack, after.stack),
        ("numbers of blocks", before.blocks, after.blocks),
        ("widths", before.width, after.width),
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
    pairs = zip(probes.texts, before.token_ids, after.token_ids, strict=True)
    for text, first_ids, second_ids in pairs:
        if first_ids != second_ids:
            msg = f"models of different tokenizers: they read {text[:60]!r} as other tokens"
            expected = f"the {len(first_ids)} tokens of {before.model.source}"
            hint = "two states of one model, each saved with the tokenizer that it was trained with"
            raise BadInputError(msg, value=len(second_ids), expected=expected, hint=hint)
