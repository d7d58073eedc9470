"""How far objectives pull a model from a reference objective: frozen records, as JSON and back."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import pandas as pd

from layerwise.card.record import DataInfo, ModelInfo
from layerwise.errors import UnknownNameError
from layerwise.provenance import Provenance
from layerwise.records import DocumentRecord, FileRecord, JsonRecord

#: The distances, by field.
METRICS = ("procrustes", "cosine", "cosine_128", "cosine_32", "pearson", "fisher")


@dataclass(frozen=True)
class HalfDistance:
    """What one half of the rows says of an objective; the fields are `ObjectiveDistance`'s."""

    rows: int
    procrustes: float
    cosine: float
    cosine_128: float
    cosine_32: float
    pearson: float
    fisher: float
    mean_norm: float
    coherence: float
    nonzero: float
    nonzero_tokens: float | None = None


@dataclass(frozen=True)
class ObjectiveDistance:
    """How far the gradients of one objective lie from the reference's; the reference has 0.

    The figures are named as their columns in `layerwise.distance.columns`, which say what they
    mean.

    Attributes:
        name: The objective.
        halves: The same from each half of the batches.
    """

    name: str
    rows: int
    procrustes: float
    cosine: float
    cosine_128: float
    cosine_32: float
    pearson: float
    fisher: float
    mean_norm: float
    coherence: float
    nonzero: float
    halves: tuple[HalfDistance, ...]
    nonzero_tokens: float | None = None


@dataclass(frozen=True)
class DistanceSettings:
    """How the gradients were taken.

    Attributes:
        batch_size: Examples a batch.
        batches: Batches that every objective saw, in one order.
        width: Coordinates of a row: the width of the last hidden state.
        seed: Fixes the order of the examples, what objectives draw, dropout and the projections.
        dtype: Of the model's weights.
        shared: Objectives that shared one forward, in groups.
        forwards: Forwards through the body of the model, all batches together.
        seconds: Wall time.
        peak_memory_bytes: The largest resident (CUDA: allocated) size.
    """

    batch_size: int
    batches: int
    width: int
    seed: int
    dtype: str
    shared: tuple[tuple[str, ...], ...]
    forwards: int
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Distance(JsonRecord, FileRecord, DocumentRecord):
    """How far each objective lies from a reference objective, with no training.

    Attributes:
        model: The model.
        data: The text, as the reference objective read it.
        reference: The objective that the others are compared with.
        settings: How the gradients were taken.
        objectives: The reference first, then the others in the order asked for.
        agreement: For each distance, the Spearman correlation between the rankings of the
            objectives (without the reference) by the two halves; absent where fewer than two are
            ranked.
        notes: What was left out, assumed or done otherwise than asked.
    """

    SCHEMA = "layerwise/distance/1"
    FILE = "distance.json"
    DOCUMENT = "distance"

    model: ModelInfo
    data: DataInfo
    reference: str
    settings: DistanceSettings
    objectives: tuple[ObjectiveDistance, ...]
    agreement: Mapping[str, float]
    provenance: Provenance
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> ObjectiveDistance:
        """Return the objective called `name`.

        Raises:
            UnknownNameError: It was not compared.
        """
        known = {o.name: o for o in self.objectives}
        if name not in known:
            raise UnknownNameError(what="objective", value=name, known=known)
        return known[name]

    def frame(self) -> pd.DataFrame:
        """A line an objective and part (``all``, ``first``, ``second`` half), a column a number."""
        named = [f.name for f in fields(HalfDistance)]
        return pd.DataFrame(
            {"objective": o.name, "part": part, **{name: getattr(found, name) for name in named}}
            for o in self.objectives
            for part, found in zip(("all", "first", "second"), (o, *o.halves), strict=True)
        )
