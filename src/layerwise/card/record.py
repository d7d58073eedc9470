"""The Layer Card as a frozen record: what was measured, of what, and how surely."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict

from layerwise import late_methods
from layerwise.errors import SchemaError, UnknownNameError
from layerwise.files import canonical_json, read_json, sha256, write_files
from layerwise.provenance import Provenance
from layerwise.records import DocumentRecord, from_plain, record_file, to_plain
from layerwise.signals import SIGNALS

SCHEMA = "layerwise/card/2"
OLDER = "layerwise/card/1"
#: What residual norms of the first schema meant.
_ONE_DRAW = (
    "residual norms are of one draw of A, which their intervals leave out (a card of schema 1)"
)


@dataclass(frozen=True)
class StackInfo:
    """One stack of blocks, by shape alone."""

    name: str
    blocks: int
    block_class: str
    residual: Literal["sequential", "parallel", "none"]


@dataclass(frozen=True)
class QuantisationInfo:
    """Weights that are kept as codes.

    Attributes:
        method: Whose library reads them, as transformers calls it.
        kind: What they are: ``nf4``, ``int8``, or the method and its bits.
        bits: Bits a number.
        saved: Whether the checkpoint holds them so; else they were made as it was loaded.
    """

    method: str
    kind: str
    bits: int
    saved: bool


@dataclass(frozen=True)
class ModelInfo:
    """The model that was measured; `files` maps each file read to its SHA-256.

    Quantised weights count as the numbers that they stand for.
    """

    source: str
    architecture: str
    parameters: int
    stacks: tuple[StackInfo, ...]
    revision: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    quantisation: QuantisationInfo | None = None


@dataclass(frozen=True)
class DataInfo:
    """The text that was read: `tokens` counts those in the statistics, `truncated` examples."""

    source: str
    sha256: str
    examples: int
    tokens: int
    objective: str
    truncated: int = 0
    dropped: int = 0
    max_length: int = 128
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CaptureInfo:
    """How the pass was run, and everything a reader needs to run it again.

    Attributes:
        seconds: Wall time of the pass.
        peak_memory_bytes: The largest resident (CUDA: allocated) size during the pass.
        plain_step_seconds: Seconds a batch of forward and backward took, without the signals' work.
        outside_forward_seconds: What of the forward is not in any block (embeddings, head, loss).
        outside_backward_seconds: The same for the backward.
        rank: Adapter rank that was simulated.
        draws: Independent A that adapters were simulated with.
        targets: The module names (last part) that were adapted in each block.
        seed: Fixes the adapters' A, the sampled query rows and the bootstrap.
        readout: Which tensor stands for a block's output.
        residual: Which reading of arXiv 2602.04019 the residual norm is of.
        damping: Relative damping of the coupled gain.
        entropy_rows: Query rows sampled per example; 0 means every row (exact).
        gram_examples: How many examples the coupled gain was estimated from.
        notes: Everything that was done otherwise than by default, or fell back.
    """

    seconds: float
    peak_memory_bytes: int
    plain_step_seconds: float
    outside_forward_seconds: float
    outside_backward_seconds: float
    rank: int
    targets: tuple[str, ...]
    seed: int
    readout: str
    batch_size: int
    dtype: str
    damping: float
    entropy_rows: int
    gram_examples: int
    bootstrap: int
    notes: tuple[str, ...] = ()
    draws: int = 1
    residual: str = "algorithm-1"


@dataclass(frozen=True)
class LayerRow:
    """One block's line of the card. A signal without meaning for the model is None.

    Signals, with the ends of their intervals, and costs, in seconds and bytes a batch, are named
    as their columns in `layerwise.signals`, which say what they mean.

    Attributes:
        stack: Name of the block's stack.
        index: Its place in the stack, from 0 at the input.
        name: Its module's qualified name.
        adapter_parameters: Parameters of adapters on all its targets.
        modules: Full names of its adapted modules.
        parameters: Parameters of the block itself; 0 where a card does not say.
        further: Signals that are registered beside these, by their keys in `card.json`.
    """

    stack: str
    index: int
    name: str
    adapter_parameters: int = 0
    residual_norm: float | None = None
    residual_norm_low: float | None = None
    residual_norm_high: float | None = None
    coherence: float | None = None
    activation_energy: float | None = None
    effective_rank: float | None = None
    attention_entropy: float | None = None
    attention_entropy_error: float | None = None
    activation_gradient: float | None = None
    gain: float | None = None
    forward_seconds: float | None = None
    backward_seconds: float | None = None
    activation_bytes: float | None = None
    modules: tuple[str, ...] = ()
    parameters: int = 0
    adapter_seconds: float | None = None
    further: Mapping[str, float] = field(default_factory=dict)

    def get(self, key: str, /) -> Any:
        """Return the value under `key`, a field or a further signal; None where there is none."""
        return getattr(self, key) if key in self.__dataclass_fields__ else self.further.get(key)


@dataclass(frozen=True)
class Agreement:
    """How much the ranking of blocks by residual norm can be trusted, as Spearman correlations.

    Attributes:
        bootstrap_spearman: Median between the ranking and its bootstrap replicates.
        rank_stability: Smallest between the rankings at adapter ranks 1, 4 and the card's own.
    """

    bootstrap_spearman: float | None = None
    rank_stability: float | None = None


@dataclass(frozen=True)
class Stability:
    """How surely blocks follow from the examples: they are chosen again from halves of these.

    Attributes:
        samples: Half-samples.
        same: In how many of them the same blocks came out.
        always: Rows that came out in all of them.
    """

    samples: int
    same: int
    always: tuple[int, ...]


@dataclass(frozen=True)
class Advice:
    """What to do, why, and what would make it surer.

    Attributes:
        verdict: ``place``, or ``flat`` where the intervals do not separate any two blocks.
        layers: Rows of the card to adapt.
        policy: The policy that chose them.
        reason: One sentence for people.
        remedies: What would make the advice surer, as things to do.
        stability: How surely it follows from the examples; None where it does not go by them.
    """

    verdict: Literal["place", "flat"]
    layers: tuple[int, ...]
    policy: str
    reason: str
    remedies: tuple[str, ...] = ()
    stability: Stability | None = None


@dataclass(frozen=True)
class CoupledBlocks:
    """How each block is coupled to all others at one relative `damping`, a figure a row.

    The figures are those of `layerwise.signals.coupling.BlockCoupling`; `kappa_by_chance` is the
    largest of `kappa` in the draws of independent gradients.
    """

    damping: float
    kappa: tuple[float, ...]
    kappa_by_chance: tuple[float, ...]
    u: tuple[float, ...]
    compensation: tuple[float, ...]
    s: tuple[float, ...]
    freezing: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class CoupledSet:
    """How the blocks of one set are coupled among themselves at one relative `damping`.

    The figures are those of `layerwise.signals.coupling.SetCoupling`; `rho_by_chance` is the
    largest of `rho` in the draws of independent gradients; `name` is ``advised`` or a policy.
    """

    name: str
    layers: tuple[int, ...]
    damping: float
    rho: float
    rho_by_chance: float
    gain: float
    additive: float
    bound: float


@dataclass(frozen=True)
class Coupling:
    """How far blocks can stand for each other.

    Attributes:
        told: Whether blocks are coupled beyond the null at the card's own damping: their mean
            kappa is above that of every draw.
        finding: That in a sentence.
        draws: Draws of the null.
        blocks: By damping, from the smallest.
        sets: The advised set and others of its size, by damping.
    """

    told: bool
    finding: str
    draws: int
    blocks: tuple[CoupledBlocks, ...]
    sets: tuple[CoupledSet, ...]


@dataclass(frozen=True)
class MeasuredRegime:
    """What one way to place adapters was found to do when it was fine-tuned.

    Attributes:
        name: Of the arm: a policy, another tool's score, a random draw, or ``recommended``.
        layers: Rows of the card that were adapted.
        improvement: Mean over seeds.
        low: Lower end of its interval (95 %); None with one seed.
        high: Upper end.
        seconds_per_step: Median over seeds.
        step_ratio: That over the seconds with adapters on all blocks; None where those were not
            measured.
        peak_memory_bytes: The largest of all trials.
        policy: What chose the blocks, where a policy did.
    """

    name: str
    layers: tuple[int, ...]
    improvement: float
    seconds_per_step: float
    peak_memory_bytes: int
    low: float | None = None
    high: float | None = None
    step_ratio: float | None = None
    policy: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Placements of one size, fine-tuned at one budget.

    Attributes:
        quality: What the improvement is in; ``loss``: how far it fell.
        objective: What was trained.
        data_sha256: Hash of the text that was trained on.
        size: Blocks a placement.
        rank: LoRA rank on them.
        steps: Optimizer steps.
        seeds: Trials of each.
        regimes: The best first.
        data_source: Where that text came from; None where a card does not say.
        verdict: The recommended placement against the mean of the random draws; None without draws,
            or where an older card does not say.
        finding: That in a sentence.
        reason: The figures behind it, in a sentence.
        failed: Why an arm has no regime, by its name.
    """

    quality: str
    objective: str
    data_sha256: str
    size: int
    rank: int
    steps: int
    seeds: int
    regimes: tuple[MeasuredRegime, ...]
    data_source: str | None = None
    verdict: Literal["better", "no difference", "worse"] | None = None
    finding: str | None = None
    reason: str | None = None
    failed: Mapping[str, str] | None = None


@dataclass(frozen=True)
class LayerCard(DocumentRecord):
    """Signals by blocks, with intervals, costs and provenance.

    Attributes:
        layers: One row a block, in the order in which the blocks run (an encoder before its
            decoder); "row" elsewhere means a position in this list.
        absent: Why each signal that is missing is missing.
        measured: What placements were found to do when they were fine-tuned; None if none were.
        coupling: How far blocks can stand for each other; None without Gram matrices.
        arrays: What is too large for JSON, by name: ``gram`` and ``adam_gram`` (l, n, n),
            ``gradient_norms`` (n, modules), ``spectrum/<module>`` (d,). Saved beside the card,
            empty where that file is gone.
    """

    DOCUMENT = "card"
    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)  # Arrays lie beside the record.

    model: ModelInfo
    data: DataInfo
    capture: CaptureInfo
    layers: tuple[LayerRow, ...]
    agreement: Agreement
    provenance: Provenance
    advice: Advice | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[Measurement, ...] | None = None
    coupling: Coupling | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def column(self, name: str) -> np.ndarray:
        """Return one signal over all blocks, float64 (l,), NaN where a block has none.

        Raises:
            UnknownNameError: It is no signal's name, nor in this card.
        """
        known = {
            *LayerRow.__dataclass_fields__,
            *SIGNALS,
            *(k for r in self.layers for k in r.further),
        }
        if name not in known:
            raise UnknownNameError(what="column", value=name, known=sorted(known))
        values = [row.get(name) for row in self.layers]
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    def place(self, goal: str | None = None, *, layers: int | None = None, **options: Any) -> Any:
        """Return the `Placement` that `layerwise.place(card, goal, layers=layers, ...)` gives."""
        return late_methods.call("place", self, goal, layers=layers, **options)

    def to_plain(self) -> dict[str, Any]:
        """Return the card as JSON values, without the arrays."""
        plain = to_plain(replace(self, arrays={}))
        plain.pop("arrays")
        rows = [row | row.pop("further") for row in plain.pop("layers")]
        return {"schema": SCHEMA, **plain, "layers": rows}

    def files(self) -> dict[str, bytes]:
        """Return ``card.json`` and ``arrays.safetensors`` as bytes."""
        from safetensors.numpy import save

        arrays = save({k: np.ascontiguousarray(v) for k, v in self.arrays.items()})
        digest = hashlib.sha256(arrays).hexdigest()
        return {
            "arrays.safetensors": arrays,
            "card.json": canonical_json({**self.to_plain(), "arrays_sha256": digest}),
        }

    def save(self, folder: Path | str) -> list[Path]:
        """Write ``card.json`` and ``arrays.safetensors`` into `folder`; return their paths."""
        return write_files(Path(folder), self.files())

    @classmethod
    def load(cls, path: Path | str) -> "LayerCard":
        """Return the card in `path`, a ``card.json`` or the folder that holds one.

        Raises:
            SchemaError: No card is there, it is of another schema, or its arrays are damaged.
        """
        file = record_file(path, name="card.json")
        plain = read_json(file, SCHEMA, OLDER)
        card = from_plain(_gathered(plain) | {"arrays": {}}, cls, source=file)
        if plain["schema"] == OLDER and any(row.residual_norm_low for row in card.layers):
            notes = tuple(dict.fromkeys((*card.capture.notes, _ONE_DRAW)))
            card = replace(card, capture=replace(card.capture, notes=notes))
        arrays = file.with_name("arrays.safetensors")
        return replace(card, arrays=_load_arrays(arrays, digest=plain.get("arrays_sha256")))


def _gathered(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a card's JSON values with the numbers that no field of a row is named after aside."""
    rows = plain.get("layers")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return plain
    gathered = []
    for row in rows:
        others = {k: v for k, v in row.items() if k not in LayerRow.__dataclass_fields__}
        further = {k: v for k, v in others.items() if type(v) in {int, float}}  # No booleans.
        gathered.append(row | {"further": further})
    return plain | {"layers": gathered}


def _load_arrays(path: Path, *, digest: str | None) -> dict[str, np.ndarray]:
    """Return the arrays in `path`, which a flipped bit or another card's file must not replace."""
    from safetensors.numpy import load_file

    if not path.exists():
        return {}
    if sha256(path) != digest:
        msg = "damaged arrays, or those of another card"
        raise SchemaError(msg, value=path, hint="make the card again with --overwrite")
    return dict(load_file(path))
