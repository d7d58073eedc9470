"""What probes read at each depth, and what erasing a concept does: frozen records, as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from layerwise.card.record import ModelInfo
from layerwise.options.groups import Readout
from layerwise.provenance import Provenance
from layerwise.records import DocumentRecord, FileRecord, JsonRecord, to_plain


@dataclass(frozen=True)
class TextInfo:
    """What the model was shown: `texts` of them, cut at `max_length` tokens each."""

    source: str
    sha256: str
    texts: int
    tokens: int
    max_length: int
    columns: Mapping[str, str]


@dataclass(frozen=True)
class ClassCount:
    """A class, with its examples on each side of the split."""

    name: str
    train: int
    test: int


@dataclass(frozen=True)
class ProbeSettings:
    """How probes are trained; the defaults are arXiv 2511.00797's where it names one.

    Attributes:
        epochs: Passes over the training side.
        batch_size: Examples a step.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        hidden: Units of the MLP's hidden layer.
        dropout: The MLP's, after its hidden layer.
        test_share: Share of each class that is held out (ours).
        seed: Fixes the split, the initial weights, the order and dropout.
    """

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    hidden: int = 768
    dropout: float = 0.1
    test_share: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class Accuracy:
    """A probe's accuracy.

    Attributes:
        accuracy: Share of held-out examples whose class it gives.
        low, high: Ends of the 95 % Wilson interval over held-out examples.
        train: Share of the examples that it was trained on.
    """

    accuracy: float
    low: float
    high: float
    train: float


@dataclass(frozen=True)
class ProbedDepth:
    """What the two probes read at one depth.

    Attributes:
        relative: The depth as a share of the stack, in (0, 1].
        index: The block whose output it is, from 0.
        linear: Of one linear layer.
        mlp: Of two layers with a nonlinearity between.
    """

    relative: float
    index: int
    linear: Accuracy
    mlp: Accuracy


@dataclass(frozen=True)
class BestDepth:
    """What a probe reads at its best depth, with the choice of that depth counted.

    Attributes:
        blocks: The best on one half of the held-out examples, and on the other.
        accuracy: Share of the examples whose class the depth gives that was chosen on the others.
        low, high: Ends of its 95 % Wilson interval.
    """

    blocks: tuple[int, int]
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Probing(JsonRecord, FileRecord, DocumentRecord):
    """How well classes can be read from a model's representation at each depth.

    Attributes:
        model: The model, none of whose weights moved.
        data: The labelled texts.
        stack: The stack of blocks that was followed.
        readout: Which tensor stands for a depth.
        settings: How the probes were trained.
        classes: The classes, in the order of their numbers.
        majority: Accuracy on held-out examples of always naming the commonest class of training.
        depths: Every block, from the input to the output.
        notes: What was left out or done otherwise than asked.
        best: By probe, its best depth; none in records of earlier versions.
        pooling: The token whose state stands for a text; None: the mean of all.
    """

    SCHEMA = "layerwise/probe/1"
    FILE = "probe.json"
    DOCUMENT = "probing"

    model: ModelInfo
    data: TextInfo
    stack: str
    readout: Readout
    settings: ProbeSettings
    classes: tuple[ClassCount, ...]
    majority: float
    depths: tuple[ProbedDepth, ...]
    provenance: Provenance
    notes: tuple[str, ...] = ()
    best: Mapping[str, BestDepth] | None = None
    pooling: Literal["first", "last"] | None = None

    def frame(self) -> pd.DataFrame:
        """Return a line a depth and probe: index, relative, probe, accuracy, low, high, train."""
        return pd.DataFrame(
            {"index": d.index, "relative": d.relative, "probe": name, **to_plain(getattr(d, name))}
            for d in self.depths
            for name in ("linear", "mlp")
        )


@dataclass(frozen=True)
class ErasureSettings:
    """How a concept was erased, and how that was judged.

    Attributes:
        folds: Parts of the pairs; each is judged under the eraser fitted on all the others.
        draws: Random directions, in each fold, that the eraser is held against.
        standardised: Whether features were divided by their standard deviations in the fit's pairs
            first; distances are then in those units.
        bootstrap: Replicates over pairs behind the intervals.
        seed: Fixes the folds, the directions and the bootstrap.
    """

    folds: int = 5
    draws: int = 20
    standardised: bool = False
    bootstrap: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class ErasedDepth:
    """What erasing the concept does at one depth; all but `effect_in_sample` on held-out pairs.

    The figures, with the ends of their 95 % intervals, are named as their columns in
    `layerwise.probing.columns`, which say what they mean; shares are of 1.

    Attributes:
        relative: The depth as a share of the stack, in (0, 1].
        index: The block whose output it is, from 0.
        control_energy: `energy` of the random directions.
    """

    relative: float
    index: int
    distance: float
    effect: float
    effect_median: float
    effect_low: float
    effect_high: float
    control: float
    control_low: float
    control_high: float
    margin: float
    margin_low: float
    margin_high: float
    ordered: float
    energy: float
    control_energy: float
    overlap: float
    effect_in_sample: float
    top_variance: float


@dataclass(frozen=True)
class Erasure(JsonRecord, FileRecord, DocumentRecord):
    """What erasing the member of a minimal pair does to the distance between both, by depth.

    Attributes:
        model: The model, none of whose weights moved.
        data: The texts of all pairs.
        pairs: How many pairs.
        groups: How many sets of pairs that share no text; a set is never split over folds.
        stack: The stack of blocks that was followed.
        readout: Which tensor stands for a depth.
        settings: How it was done.
        depths: Every block, from the input to the output.
        eraser: The package that fitted the eraser, with its version.
        notes: What was left out or done otherwise than asked.
    """

    SCHEMA = "layerwise/erase/1"
    FILE = "erase.json"
    DOCUMENT = "erasure"

    model: ModelInfo
    data: TextInfo
    pairs: int
    groups: int
    stack: str
    readout: Readout
    settings: ErasureSettings
    depths: tuple[ErasedDepth, ...]
    eraser: str
    provenance: Provenance
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """Return a line a depth, a column a number."""
        return pd.DataFrame(to_plain(depth) for depth in self.depths)
