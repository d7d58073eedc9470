"""Predictors held against measured improvements: how well each ranks sets, and which to trust.

Everything is a rank correlation over sets of blocks (`laboratory.agreement`), so that a
prediction needs no unit. Damping is chosen on sets or pairs that the figure beside it does not come
from. Source: docs/methods.md.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from laboratory.agreement import Strata, agreements, ceiling
from laboratory.calibration import (
    Calibration,
    Family,
    LeftOutPair,
    PairCalibration,
    PredictorChoice,
    PredictorScore,
)
from laboratory.predictors import PREDICTORS, Predictor
from laboratory.run_log import SetRun
from layerwise.card.record import LayerCard
from layerwise.errors import BadInputError
from layerwise.intervals import percentiles
from layerwise.placement.cost import missing_timings, step_cost
from layerwise.provenance import collect

#: The dampings that are tried: a decade either way of the one in use, two steps a decade (ours).
DAMPINGS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
#: Splits into halves over which a damping is chosen on one and judged on the other (ours).
SPLITS = 100
#: The share of the sets that a seed must have been trained on to count (ours): one that a study was
#: cut short in would take most of the sets with it.
SHARE = 0.9
#: Sets of one size below which a rank correlation says nothing (ours).
FEWEST = 5

Version = tuple[str, float | None]


@dataclass(frozen=True, eq=False)
class SetTable:
    """The sets of one pair that were trained under every seed.

    Attributes:
        name: Of the pair.
        card: What the predictors look at.
        sets: The sets, as rows of the card.
        seeds: The seeds; one that lacks more than a tenth of the sets is not taken.
        improvements: What each set gained, (sets, seeds).
        example: Any of the runs: they differ in set and seed alone.
        left_out: Sets that were not trained under every seed.
    """

    name: str
    card: LayerCard
    sets: tuple[tuple[int, ...], ...]
    seeds: tuple[int, ...]
    improvements: np.ndarray
    example: SetRun
    left_out: int

    @cached_property
    def strata(self) -> Strata:
        """The sets by size."""
        return Strata.of(self.sets)

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean improvement of each set over seeds."""
        return np.asarray(self.improvements.mean(axis=1))

    @cached_property
    def predictions(self) -> Mapping[Version, np.ndarray]:
        """What each predictor says of each set, at each damping where that plays a part."""
        return {
            version: np.array([_predicted(version, self.card, some) for some in self.sets])
            for version in versions(PREDICTORS)
        }

    def spearman(self, version: Version) -> float:
        """Return the rank correlation of a predictor with the mean improvement."""
        return self.strata.agreement(self.predictions[version], self.mean)

    def bootstrap(self, version: Version) -> np.ndarray:
        """Return the same over resamples of the sets."""
        return self.strata.bootstrap(self.predictions[version], self.mean)


def versions(names: Iterable[str]) -> list[Version]:
    """Return the predictors called `names`, once for each damping that changes them."""
    return [
        (name, damping)
        for name in names
        for damping in (DAMPINGS if PREDICTORS[name].is_damped else (None,))
    ]


def _predicted(version: Version, card: LayerCard, rows: Sequence[int]) -> float:
    name, damping = version
    return PREDICTORS[name](card, rows, damping=DAMPINGS[0] if damping is None else damping)


def set_table(card: LayerCard, runs: Sequence[SetRun], *, kind: str = "random") -> SetTable:
    """Return the runs of one pair as a table of sets by seeds, those of one `kind`.

    Raises:
        BadInputError: They are of several pairs or differ in more than set and seed, a row is not
            in the card, or too few sets were trained under every seed to rank them.
    """
    some = [run for run in runs if run.kind == kind]
    _refuse_mixed(some, kind)
    table = {(run.rows, run.seed): run.trial.improvement for run in some}
    sets = tuple(dict.fromkeys(run.rows for run in some))
    seeds = _seeds(table, len(sets))
    whole = tuple(rows for rows in sets if all((rows, seed) in table for seed in seeds))
    _refuse_few(whole, card)
    gained = np.array([[table[rows, seed] for seed in seeds] for rows in whole])
    left_out = len(sets) - len(whole)
    return SetTable(some[0].pair, card, whole, seeds, gained, some[0], left_out)


def _seeds(trained: Iterable[tuple[tuple[int, ...], int]], sets: int) -> tuple[int, ...]:
    """Return the seeds under which nearly all of the sets were trained."""
    counts = Counter(seed for _, seed in trained)
    return tuple(sorted(seed for seed, count in counts.items() if count >= SHARE * sets))


def _refuse_mixed(runs: Sequence[SetRun], kind: str) -> None:
    ways = {
        (r.pair, r.rank, r.batch_size, r.max_length, r.trial.steps, r.trial.learning_rate)
        for r in runs
    }
    if len(ways) != 1:
        msg = f"runs of {kind} sets to calibrate with"
        expected = "some, of one pair, rank, batch size, length, rate and number of steps"
        raise BadInputError(msg, value=sorted(ways), expected=expected)


def _refuse_few(sets: Sequence[Sequence[int]], card: LayerCard) -> None:
    outside = [row for some in sets for row in some if not 0 <= row < len(card.layers)]
    if outside:
        msg = "row of a run that its card does not have"
        raise BadInputError(msg, value=outside[0], expected=f"0 to {len(card.layers) - 1}")
    fewest = min(map(len, Strata.of(sets).members), default=0)
    if fewest < FEWEST:
        msg = "sets of one size that were trained under every seed"
        raise BadInputError(msg, value=fewest, expected=f"at least {FEWEST}")


def calibrate(pairs: Sequence[SetTable]) -> Calibration:
    """Return every predictor on every pair, and which of them the pairs speak for.

    A predictor, with its damping, is chosen by its mean correlation over pairs. With several pairs
    it is chosen anew without each one, and judged on that: among the predictors that look at
    signals, and among those that look at depths alone.

    Raises:
        BadInputError: There is no pair.
        PlacementError: A card lacks what a predictor goes by.
    """
    if not pairs:
        msg = "no pair of model and text to calibrate with"
        raise BadInputError(msg)
    families = sorted((_family(name, pairs) for name in PREDICTORS), key=_worth, reverse=True)
    name, damping = _best(versions(PREDICTORS), pairs)
    left_out = [_left_out(pair, _others(pairs, pair)) for pair in pairs] if len(pairs) > 1 else []
    margin, low, high = _margin(pairs, left_out)
    return Calibration(
        pairs=tuple(_pair(pair) for pair in pairs),
        families=tuple(families),
        preferred=name,
        preferred_damping=damping,
        left_out=tuple(left_out),
        beats_geometry=low is not None and low > 0.0,
        margin=margin,
        margin_low=low,
        margin_high=high,
        provenance=collect(device="cpu"),
    )


def _others(pairs: Sequence[SetTable], pair: SetTable) -> list[SetTable]:
    return [other for other in pairs if other is not pair]


def _best(candidates: Sequence[Version], pairs: Sequence[SetTable]) -> Version:
    """Return the candidate with the largest mean correlation over `pairs`, the first on ties."""
    means = [np.mean([pair.spearman(c) for pair in pairs]) for c in candidates]
    return candidates[int(np.argmax(means))]


# -- one pair --------------------------------------------------------------------------------------


def _pair(pair: SetTable) -> PairCalibration:
    card, run = pair.card, pair.example
    return PairCalibration(
        name=pair.name,
        model=card.model.source,
        data=card.data.source,
        objective=card.data.objective,
        sets=len(pair.sets),
        sizes=tuple(sorted({len(some) for some in pair.sets})),
        seeds=pair.seeds,
        rank=run.rank,
        steps=run.trial.steps,
        learning_rate=run.trial.learning_rate,
        left_out=pair.left_out,
        scores=tuple(_score(predictor, pair) for _, predictor in PREDICTORS.items()),
        noise=ceiling(pair.strata, pair.improvements),
    )


def _score(predictor: Predictor, pair: SetTable) -> PredictorScore:
    candidates = versions([predictor.name])
    best = _best(candidates, [pair])
    low, high = percentiles(pair.bootstrap(best))
    over_cost, per_second = _beside_cost(predictor, pair, pair.predictions[best])
    return PredictorScore(
        name=predictor.name,
        spearman=pair.spearman(best),
        low=low,
        high=high,
        damping=best[1],
        held_out=_held_out(candidates, pair) if predictor.is_damped else None,
        over_cost=over_cost,
        per_second=per_second,
    )


def _held_out(candidates: Sequence[Version], pair: SetTable) -> float:
    """Return the mean correlation on half of the sets, the damping chosen on the others."""
    seen, unseen = pair.strata.halved(SPLITS)
    by_version = [pair.predictions[c] for c in candidates]
    tried = np.stack([agreements(p, pair.mean, seen) for p in by_version])
    judged = np.stack([agreements(p, pair.mean, unseen) for p in by_version])
    return float(judged[tried.argmax(axis=0), np.arange(SPLITS)].mean())


def _beside_cost(
    predictor: Predictor, pair: SetTable, predicted: np.ndarray
) -> tuple[float | None, float | None]:
    """Return how prediction over cost goes with improvement, and with improvement over cost."""
    if not predictor.is_gain or missing_timings(pair.card):
        return None, None
    cost = step_cost(pair.card, rank=pair.example.rank)
    price = np.array([cost.seconds(some) for some in pair.sets])
    agree = pair.strata.agreement
    return agree(predicted / price, pair.mean), agree(predicted / price, pair.mean / price)


# -- over pairs ------------------------------------------------------------------------------------


def _family(name: str, pairs: Sequence[SetTable]) -> Family:
    candidates = versions([name])
    best = _best(candidates, pairs)
    whole = float(np.mean([pair.spearman(best) for pair in pairs]))
    if len(pairs) == 1:
        return Family(name, whole, damping=best[1])
    unseen = [pair.spearman(_best(candidates, _others(pairs, pair))) for pair in pairs]
    return Family(name, whole, float(np.mean(unseen)), best[1])


def _worth(family: Family) -> float:
    return family.spearman if family.left_out is None else family.left_out


def _left_out(pair: SetTable, others: Sequence[SetTable]) -> LeftOutPair:
    return LeftOutPair(
        pair=pair.name,
        signal=_chosen(lambda p: not p.is_geometry, pair, others),
        geometry=_chosen(lambda p: p.is_geometry, pair, others),
    )


def _chosen(
    wanted: Callable[[Predictor], bool], pair: SetTable, others: Sequence[SetTable]
) -> PredictorChoice:
    """Return the best of the wanted predictors on the others, on `pair`."""
    names = [name for name, predictor in PREDICTORS.items() if wanted(predictor)]
    best = _best(versions(names), others)
    low, high = percentiles(pair.bootstrap(best))
    return PredictorChoice(best[0], pair.spearman(best), low, high, best[1])


def _margin(
    pairs: Sequence[SetTable], left_out: Sequence[LeftOutPair]
) -> tuple[float | None, float | None, float | None]:
    """Return how much better signals rank left-out pairs than depths do, with an interval."""
    if not left_out:
        return None, None, None
    resampled = []
    for pair, chosen in zip(pairs, left_out, strict=True):
        signal = (chosen.signal.name, chosen.signal.damping)
        geometry = (chosen.geometry.name, chosen.geometry.damping)
        resampled.append(pair.bootstrap(signal) - pair.bootstrap(geometry))
    low, high = percentiles(np.mean(resampled, axis=0))
    whole = [x.signal.spearman - x.geometry.spearman for x in left_out]
    return float(np.mean(whole)), low, high
