"""An analysis of many runs: frozen rows, as JSON and back, and as frames.

In every row `metric` is what a change is measured by, `distance` what the distance between two
objectives is measured by, `low` and `high` are the ends of an interval over seeds, and `reason`
says why a number is absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, get_args, get_origin

import pandas as pd

from layerwise.analysis.names import DEPTHS
from layerwise.provenance import Provenance
from layerwise.records import DocumentRecord, FileRecord, JsonRecord
from layerwise.registry import Registry

T = TypeVar("T")


@dataclass(frozen=True)
class AnalysisSettings:
    """The options of an analysis, and the coverage of its intervals (`level`)."""

    placement: str
    threshold: float
    bootstrap: int
    level: float
    seed: int


@dataclass(frozen=True)
class ModelRow:
    """A model: its kind, and how many runs it has under how many objectives."""

    model: str
    family: str
    block: str
    runs: int
    objectives: int
    layers: int | None = None


@dataclass(frozen=True)
class RunSlope:
    """The slope of one run by one metric: of the change on relative depth."""

    model: str
    objective: str
    condition: str
    placement: str
    seed: int
    metric: str
    slope: float


@dataclass(frozen=True)
class Share:
    """The share of runs with a positive slope.

    Attributes:
        conditions: ``five-standard`` for the five of the paper, or one condition's name.
        zero: Of `runs`, with a slope of exactly 0: nothing changed, or the same at every depth.
        share: `positive` / `runs`.
    """

    metric: str
    conditions: str
    runs: int
    positive: int
    negative: int
    zero: int
    share: float


@dataclass(frozen=True)
class Disagreement:
    """A run whose two slopes are of different sign."""

    model: str
    objective: str
    condition: str
    placement: str
    seed: int
    procrustes: float
    cka: float


@dataclass(frozen=True)
class MeanSlope:
    """A slope, the mean over seeds; its interval is absent where there is one seed."""

    model: str
    objective: str
    condition: str
    metric: str
    seeds: int
    slope: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class EqualStepSlope:
    """The slope that is left when every layer group makes steps of one relative size.

    Attributes:
        block: The model's kind of block.
        family: The objective's family.
        seeds: Seeds that have both conditions; those under equal-step where none has.
        equal_step: The slope under equal-step, the mean over seeds.
        standard: That under the standard condition; absent where no such run is there.
        ratio: `equal_step` / `standard`; absent without `standard`, and where that is 0.
    """

    model: str
    objective: str
    metric: str
    block: str
    family: str
    seeds: int
    equal_step: float
    standard: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class SignCount:
    """Signs of the equal-step slopes; of one kind of block or family where that is named."""

    metric: str
    pairs: int
    positive: int
    negative: int
    zero: int
    block: str | None = None
    family: str | None = None


@dataclass(frozen=True)
class Width:
    """The spread of a model's change over depth.

    Attributes:
        runs: Runs of the five standard conditions that changed anything.
        still: Such runs that changed nothing, and so have no width.
        shares: The mean over `runs` of the CKA change at the seven depths divided by its sum;
            empty where there is no such run.
        deviation: Standard deviation over objectives of the last depth's share, the mean over an
            objective's runs; absent of fewer than two objectives.
    """

    model: str
    runs: int
    still: int
    shares: tuple[float, ...]
    deviation: float | None = None


@dataclass(frozen=True)
class Concordance:
    """Spearman correlation, in one model, of slope and distance over its objectives.

    Attributes:
        objectives: How many have both.
        conditions: Over how many of the five conditions their slopes are averaged, at least.
    """

    model: str
    distance: str
    metric: str
    objectives: int
    conditions: int
    rho: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class SignTest:
    """Two-sided sign test of the models' correlations; those of 0 are left out of it."""

    distance: str
    metric: str
    models: int
    positive: int
    negative: int
    zero: int
    p_value: float | None = None


@dataclass(frozen=True)
class PooledCorrelation:
    """Spearman correlation over all models and objectives together.

    Attributes:
        references: Whether the objectives at distance 0 are among the points.
        p_value: Two-sided, as though the points were independent, which those of one model
            are not.
    """

    distance: str
    metric: str
    references: bool
    points: int
    rho: float | None = None
    p_value: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Fit:
    """The least-squares line of slope on distance through all points.

    Attributes:
        intercept: The line at distance 0.
        gradient: Its rise per unit of distance.
        deviation: Residual standard deviation, with `points` - 2 degrees of freedom.
    """

    distance: str
    metric: str
    points: int
    intercept: float | None = None
    gradient: float | None = None
    deviation: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Point:
    """A model and objective in a `Fit`.

    Attributes:
        at: The distance.
        slope: The slope, the mean over seeds and then over the five conditions.
        conditions: How many of the five there were.
        residual: `slope` less the line, in residual standard deviations.
        anomaly: Whether that is beyond the threshold.
    """

    model: str
    objective: str
    distance: str
    metric: str
    at: float
    slope: float
    conditions: int
    residual: float | None = None
    anomaly: bool = False


@dataclass(frozen=True)
class Analysis(JsonRecord, FileRecord, DocumentRecord):
    """The analysis of many runs, after arXiv 2604.17177: tables of rows, in the order of the work.

    Attributes:
        source: Where the runs are from.
        sha256: Of their tables.
        negative: Runs of the five standard conditions with a slope below 0.
        fits: The lines that anomalies are measured from.
        points: The points of these lines.
        absent: Parts that could not be made, and why.
        notes: What a reader should know.
    """

    SCHEMA = "layerwise/analysis/1"
    FILE = "analysis.json"
    DOCUMENT = "analysis"

    source: str
    sha256: str
    settings: AnalysisSettings
    models: tuple[ModelRow, ...]
    slopes: tuple[RunSlope, ...]
    shares: tuple[Share, ...]
    negative: tuple[RunSlope, ...]
    disagreements: tuple[Disagreement, ...]
    mean_slopes: tuple[MeanSlope, ...]
    equal_step: tuple[EqualStepSlope, ...]
    sign_counts: tuple[SignCount, ...]
    widths: tuple[Width, ...]
    concordance: tuple[Concordance, ...]
    sign_tests: tuple[SignTest, ...]
    pooled: tuple[PooledCorrelation, ...]
    fits: tuple[Fit, ...]
    points: tuple[Point, ...]
    provenance: Provenance
    absent: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def anomalies(self) -> tuple[Point, ...]:
        """Return the points beyond the threshold."""
        return tuple(point for point in self.points if point.anomaly)

    def frame(self, part: str = "slopes") -> pd.DataFrame:
        """Return a part such as ``widths`` as a table, with NaN where a row has nothing.

        The seven shares of a width are columns d0.10 to d1.00.

        Raises:
            UnknownNameError: There is no such part.
        """
        kind = PARTS[part]
        names = [f.name for f in fields(kind)]
        rows = [[getattr(row, name) for name in names] for row in getattr(self, part)]
        table = pd.DataFrame(rows, columns=names)
        if part == "widths":
            shares = table.pop("shares").map(lambda found: found or (float("nan"),) * len(DEPTHS))
            depths = pd.DataFrame(shares.tolist(), columns=list(DEPTHS), index=table.index)
            return table.join(depths)
        return table.astype({"layers": "Int64"} if part == "models" else {})


PARTS = Registry[type[Any]]("part of an analysis")
"""The tables of an analysis: the name of its field, and what a row of it is."""

for _field in fields(Analysis):
    if get_origin(_field.type) is tuple and _field.name != "notes":
        PARTS.add(get_args(_field.type)[0], name=_field.name)
PARTS.add(Point, name="anomalies")


def rows_of(table: pd.DataFrame, kind: type[T]) -> tuple[T, ...]:
    """Return a `kind` for each row of `table`, whose columns are its fields; NaN becomes None."""
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]  # every kind is a dataclass
    plain = table[[name for name in names if name in table]].astype("object")
    return tuple(
        kind(**{str(k): v for k, v in row.items()})
        for row in plain.where(plain.notna(), None).to_dict("records")
    )
