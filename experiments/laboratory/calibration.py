"""How well predictors rank measured improvements, as a frozen record: ``calibration.json``."""

from dataclasses import dataclass

from layerwise.provenance import Provenance
from layerwise.records import FileRecord, JsonRecord


@dataclass(frozen=True)
class NoiseCeiling:
    """How well any predictor could do, given how far seeds agree.

    Attributes:
        between_seeds: Mean rank correlation of the improvements under two seeds.
        reliability: That of the mean over the seeds with the mean over as many others
            (Spearman-Brown).
        ceiling: Root of the reliability: what a perfect predictor would be expected to reach
            (Spearman 1904).
        low: Lower end of the ceiling's bootstrap interval over sets (95 %).
        high: Upper end.
    """

    between_seeds: float
    reliability: float
    ceiling: float
    low: float
    high: float


@dataclass(frozen=True)
class PredictorScore:
    """How one predictor ranks the sets of a pair.

    Attributes:
        name: The predictor.
        spearman: Rank correlation with the mean improvement over seeds.
        low: Lower end of its bootstrap interval over sets (95 %).
        high: Upper end.
        damping: The damping with the best correlation; None where it plays no part.
        held_out: The correlation on half of the sets with the damping chosen on the other half, the
            mean over splits; None where damping plays no part.
        over_cost: Correlation of the prediction over the predicted cost with the improvement.
        per_second: The same with the improvement over the predicted cost, too.
    """

    name: str
    spearman: float
    low: float
    high: float
    damping: float | None = None
    held_out: float | None = None
    over_cost: float | None = None
    per_second: float | None = None


@dataclass(frozen=True)
class PairCalibration:
    """Every predictor on one pair of model and text.

    Attributes:
        name: Of the pair.
        model: Its model's source.
        data: Its text's.
        objective: The loss.
        sets: How many sets were trained under every seed.
        sizes: The sizes of the sets; correlations are within a size, their mean over sets taken.
        seeds: The seeds.
        rank: Of the adapters.
        steps: Optimizer steps of a run.
        learning_rate: AdamW's.
        left_out: Sets that were not trained under every seed.
        scores: The predictors, in the order in which they are registered.
        noise: What noise allows; None with one seed.
    """

    name: str
    model: str
    data: str
    objective: str
    sets: int
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    rank: int
    steps: int
    learning_rate: float
    left_out: int
    scores: tuple[PredictorScore, ...]
    noise: NoiseCeiling | None = None


@dataclass(frozen=True)
class PredictorChoice:
    """A predictor chosen on some pairs, and how it ranks the sets of another.

    Attributes:
        name: The predictor.
        damping: Its damping; None where it plays no part.
        spearman: Rank correlation on the pair that had no part in the choice.
        low: Lower end of its bootstrap interval over sets (95 %).
        high: Upper end.
    """

    name: str
    spearman: float
    low: float
    high: float
    damping: float | None = None


@dataclass(frozen=True)
class LeftOutPair:
    """One pair with what the others would have chosen for it.

    Attributes:
        pair: Its name.
        signal: The best predictor of those that look at signals.
        geometry: The best of those that look at depths alone.
    """

    pair: str
    signal: PredictorChoice
    geometry: PredictorChoice


@dataclass(frozen=True)
class Family:
    """A predictor over all pairs.

    Attributes:
        name: The predictor.
        spearman: Its mean correlation over pairs, at the damping that is best over all.
        left_out: The same on each pair at the damping that is best over the others; None with one.
        damping: The damping that is best over all; None where it plays no part.
    """

    name: str
    spearman: float
    left_out: float | None = None
    damping: float | None = None


@dataclass(frozen=True)
class Calibration(JsonRecord, FileRecord):
    """Predictors held against measured improvements, and the one that they speak for.

    Attributes:
        pairs: Each pair of model and text.
        families: Each predictor over all pairs, the best (left out, where there are pairs) first.
        left_out: Each pair with what the others choose; empty with one pair.
        preferred: The predictor with the best mean correlation.
        preferred_damping: Its damping; None where it plays no part.
        beats_geometry: Whether the interval of `margin` lies above 0; False with one pair.
        margin: Mean over pairs of how much better the chosen signal ranks a left-out pair than the
            chosen geometry; None with one pair.
        margin_low: Lower end of its bootstrap interval over sets (95 %).
        margin_high: Upper end.
        provenance: What it was computed with.
    """

    SCHEMA = "layerwise/calibration/1"
    FILE = "calibration.json"

    pairs: tuple[PairCalibration, ...]
    families: tuple[Family, ...]
    preferred: str
    provenance: Provenance
    left_out: tuple[LeftOutPair, ...] = ()
    preferred_damping: float | None = None
    beats_geometry: bool = False
    margin: float | None = None
    margin_low: float | None = None
    margin_high: float | None = None
