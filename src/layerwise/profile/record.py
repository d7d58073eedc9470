"""A depth profile, and a control of two: frozen records, as JSON and back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pandas as pd

from layerwise.card.record import DataInfo, ModelInfo
from layerwise.errors import BadInputError
from layerwise.options.groups import Readout
from layerwise.profile.audit_record import Audit
from layerwise.provenance import Provenance
from layerwise.records import ABSENT, DocumentRecord, FileRecord, JsonRecord, to_plain

Verdict = Literal["intrinsic", "artefact", "undecided"]


@dataclass(frozen=True)
class DepthChange:
    """The change of the representation at one depth.

    Attributes:
        relative: The depth as a share of the stack, in (0, 1].
        index: The block whose output it is, from 0.
        procrustes: Procrustes distance, in [0, sqrt 2].
        cka: 1 - linear CKA, in [0, 1].
        rsa: 1 - Spearman correlation of the dissimilarity matrices.
        shared_pca_cka: 1 - linear CKA after one PCA of both.
        noise: By how much `procrustes` differs between two halves of the probes.
        held_out: The distance of one half of the probes under a rotation that was fitted on the
            other, in [0, 2]; like `unrotated`, with no rotation, absent in records of schema 1.
    """

    relative: float
    index: int
    procrustes: float
    cka: float
    rsa: float
    shared_pca_cka: float
    noise: float | None = None
    held_out: float | None = None
    unrotated: float | None = None


@dataclass(frozen=True)
class ReadoutProfile:
    """The profile under one readout.

    Attributes:
        depths: The seven relative depths.
        blocks: Every block, from the input to the output.
        slope: Of the Procrustes distance at the seven depths on relative depth.
        slope_low, slope_high: Ends of its 95 % interval over probe inputs.
        cka_slope: The same slope of the CKA change.
        rsa_slope: The same slope of the RSA change.
        width: The CKA change at the seven depths divided by its sum; empty where nothing moved.
        noise_floor: The median of `noise` over the seven depths.
        held_out_slope, unrotated_slope: As `slope`, of those distances.
    """

    depths: tuple[DepthChange, ...]
    blocks: tuple[DepthChange, ...]
    slope: float
    slope_low: float
    slope_high: float
    cka_slope: float
    rsa_slope: float
    width: tuple[float, ...]
    noise_floor: float
    held_out_slope: float | None = None
    unrotated_slope: float | None = None


@dataclass(frozen=True)
class ProbeInfo:
    """The inputs that both models were shown, and how they were compared.

    Attributes:
        inputs, width: Rows and columns of a state. With fewer rows than columns the rotation of
            all rows overfits, and the slope depends on how many they are.
    """

    source: str
    sha256: str
    inputs: int
    tokens: int
    max_length: int
    bootstrap: int
    pca_components: int
    seed: int
    width: int | None = None

    @property
    def shown(self) -> str:
        """Return what was shown, as a word: equal of equal texts that are cut at one length."""
        return f"{self.sha256[:16]} at {self.max_length}"


def refuse_other_probes(shown: Iterable[str], *, what: str) -> None:
    """Raise a BadInputError unless all profiles are of one probe set, by `ProbeInfo.shown`."""
    first, *others = sorted(set(shown)) or [""]
    if others:
        msg, hint = f"{what} of different probes", "the same --probes and --max-length for all"
        raise BadInputError(msg, value=others[0], expected=first, hint=hint)


def _of_first_profiles(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a profile of the first schema with a note on what its slope is of."""
    meant = (
        "made by an earlier rule, without the width of states: with fewer probes than dimensions "
        "distances and slopes depend on how many probes there were"
    )
    return {**plain, "notes": [*plain.get("notes", ()), meant]}


@dataclass(frozen=True)
class Profile(JsonRecord, FileRecord, DocumentRecord):
    """The change between two states of a model, by depth.

    The fields from `depths` to `noise_floor`, and the two slopes at the end, are those of the
    readout that was asked for; all of them are in `readouts`.

    Attributes:
        before: The model before.
        after: The model after; for an adapter, its `base` is the model before.
        stack: The stack of blocks that was followed.
        probes: The inputs that the models were shown.
        readout: Which tensor stands for a depth in the fields above `readouts`.
        untrained_modules: Modules whose adapter is still what it was at the start (B all zero).
        notes: What was done otherwise than asked.
        audit: Of the adapter; None where the model after is no adapter on the model before.
    """

    SCHEMA = "layerwise/profile/2"
    FILE = "profile.json"
    DOCUMENT = "profile"
    OLDER: ClassVar = {"layerwise/profile/1": _of_first_profiles}

    before: ModelInfo
    after: ModelInfo
    stack: str
    probes: ProbeInfo
    readout: Readout
    depths: tuple[DepthChange, ...]
    blocks: tuple[DepthChange, ...]
    slope: float
    slope_low: float
    slope_high: float
    cka_slope: float
    rsa_slope: float
    width: tuple[float, ...]
    noise_floor: float
    readouts: Mapping[str, ReadoutProfile]
    provenance: Provenance
    untrained_modules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    audit: Audit | None = None
    held_out_slope: float | None = None
    unrotated_slope: float | None = None

    def frame(self) -> pd.DataFrame:
        """Return every block under every readout: readout, index, relative and the changes."""
        return pd.DataFrame(
            {"readout": name, **to_plain(block)}
            for name, readout in self.readouts.items()
            for block in readout.blocks
        )


@dataclass(frozen=True)
class StepSizes:
    """The relative step ||dW|| / ||W|| of one layer group over a run.

    Attributes:
        group: The block's qualified name, or ``rest``.
        row: The block's position; None for the rest.
        asked: tau, under equal-step; None elsewhere.
        median: The median over the steps that were measured.
        low: Their 5th percentile.
        high: Their 95th percentile.
    """

    group: str
    row: Annotated[int | None, ABSENT]
    asked: Annotated[float | None, ABSENT]
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ControlRun:
    """Both conditions from one seed.

    Attributes:
        seed: Of the data order, dropout and probes.
        standard: What moved under the standard condition.
        equal_step: What moved under equal-step.
        ratio: slope(equal-step) / slope(standard).
        verdict: What arXiv 2604.17177 reads off this seed: intrinsic where the slope under
            equal-step is positive, else artefact.
        tau: The relative step of equal-step.
        standard_steps: The step of each layer group under standard.
        equal_step_steps: The same under equal-step.
        standard_loss: Mean training loss over the last tenth of the steps.
        equal_step_loss: The same under equal-step.
        movement: The sum of the distances at all depths under equal-step, over that under standard.
    """

    seed: int
    standard: Profile
    equal_step: Profile
    ratio: Annotated[float | None, ABSENT]
    verdict: Verdict
    tau: float
    standard_steps: tuple[StepSizes, ...] = ()
    equal_step_steps: tuple[StepSizes, ...] = ()
    standard_loss: float | None = None
    equal_step_loss: float | None = None
    movement: float | None = None


@dataclass(frozen=True)
class Slope:
    """A mean slope, with its 95 % interval over seeds; absent of fewer than three."""

    slope: float
    low: Annotated[float | None, ABSENT] = None
    high: Annotated[float | None, ABSENT] = None


@dataclass(frozen=True)
class Difference:
    """What is left of the slope under equal-step beyond a share of that under standard.

    Attributes:
        share: That share.
        slope: The mean over seeds.
        low, high: Ends of its 95 % interval; absent of fewer than three seeds.
        more_seeds: How many more such seeds would leave 0 out of it; 0 where it is out, absent
            where that cannot be told or is more than a hundred.
    """

    share: float
    slope: float
    low: Annotated[float | None, ABSENT] = None
    high: Annotated[float | None, ABSENT] = None
    more_seeds: Annotated[int | None, ABSENT] = None


def _of_first_schema(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a control of the first schema with a note on what its verdict meant."""
    meant = (
        "made by an earlier rule: intrinsic meant that the interval of the equal-step slope lay "
        "above 0, artefact that it did not; its intervals joined seeds and probe inputs"
    )
    return {**plain, "notes": [*plain.get("notes", ()), meant]}


@dataclass(frozen=True)
class Control(JsonRecord, FileRecord, DocumentRecord):
    """The verdict whether the shape of a depth profile is the model's or the optimizer's.

    Attributes:
        standard: The profile of the first seed under standard.
        equal_step: The same under equal-step.
        slopes: ``standard`` and ``equal_step`` over all seeds.
        ratio: Of the two slopes over all seeds; None where the standard slope is 0.
        verdict: ``intrinsic``, ``artefact`` or ``undecided``, by the interval of `difference`; see
            `layerwise.profile.verdict.judge`.
        reason: The verdict in a sentence, with the figures.
        tau: The relative step of the first seed's equal-step run.
        seeds: All seeds, in the order of `runs`.
        runs: Every pair.
        difference: What is left under equal-step beyond a share of the standard slope; None in a
            record of the first schema.
        movement: How much further all depths moved under equal-step, the mean over seeds.
        sign: What arXiv 2604.17177 reads: the sign of the equal-step slope.
        data: What was trained on; None where finished runs did not say.
        notes: What was done otherwise than asked.
    """

    SCHEMA = "layerwise/control/2"
    FILE = "control.json"
    DOCUMENT = "control"
    OLDER: ClassVar = {"layerwise/control/1": _of_first_schema}

    standard: Profile
    equal_step: Profile
    slopes: Mapping[str, Slope]
    ratio: Annotated[float | None, ABSENT]
    verdict: Verdict
    reason: str
    tau: float
    seeds: tuple[int, ...]
    runs: tuple[ControlRun, ...]
    provenance: Provenance
    difference: Difference | None = None
    movement: float | None = None
    sign: Literal["intrinsic", "artefact"] | None = None
    data: DataInfo | None = None
    notes: tuple[str, ...] = ()
