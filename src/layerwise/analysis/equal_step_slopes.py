"""Equal-step against standard: the slope that is left, and for which blocks and objectives."""

from collections.abc import Iterable
from itertools import product

import numpy as np
import pandas as pd

from layerwise.analysis.names import EQUAL_STEP, FAMILIES, METRICS
from layerwise.analysis.record import EqualStepSlope, SignCount
from layerwise.analysis.seed_slopes import SeedSlope, SeedSlopes, interval
from layerwise.analysis.slopes import count_signs

_PAIR = ["model", "objective", "metric"]


def same_seeds(slopes: pd.DataFrame) -> pd.DataFrame:
    """Return the rows under equal-step and standard of the seeds that have both.

    A model and objective without such a seed keeps its equal-step rows, alone.
    """
    both = slopes[slopes["condition"].isin([EQUAL_STEP, "standard"])]
    shared = both.groupby([*_PAIR, "seed"])["condition"].transform("nunique") == 2
    any_shared = shared.groupby([both[name] for name in _PAIR]).transform("any")
    return both[shared | (~any_shared & (both["condition"] == EQUAL_STEP))]


def equal_step(slopes: SeedSlopes, models: pd.DataFrame) -> tuple[EqualStepSlope, ...]:
    """Return a row for each model, objective and metric that has a run under equal-step.

    Args:
        slopes: Made of `same_seeds`.
        models: A row a model, with its kind of block.
    """
    blocks = dict(zip(models["model"], models["block"], strict=True))
    return tuple(
        _row(
            (model, objective, metric),
            blocks[model],
            equal,
            slopes.get((model, objective, "standard", metric)),
        )
        for (model, objective, condition, metric), equal in slopes.items()
        if condition == EQUAL_STEP
    )


def _row(
    names: tuple[str, str, str], block: str, equal: SeedSlope, standard: SeedSlope | None
) -> EqualStepSlope:
    """Return the row with its ratio to the standard condition, or with why there is none."""
    low, high = interval(equal.figures, seeds=equal.seeds)
    ratio, ends = None, interval(np.empty(0), seeds=0)
    reason: str | None = "no run under the standard condition of the same seed"
    if standard is not None:
        above, below = equal.figures, standard.figures
        with np.errstate(over="ignore"):  # Next to 0, where the quotient is not finite.
            ratios = np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)
        reason = "the slope under the standard condition is 0"
        if np.isfinite(ratios[0]):
            ratio, reason = float(ratios[0]), None
            ends = interval(ratios, seeds=min(equal.seeds, standard.seeds))
    return EqualStepSlope(
        *names,
        block,
        FAMILIES.get(names[1], "other"),
        equal.seeds,
        equal.slope,
        None if standard is None else standard.slope,
        ratio,
        low,
        high,
        *ends,
        reason,
    )


def sign_counts(rows: Iterable[EqualStepSlope]) -> tuple[SignCount, ...]:
    """Count signs of the equal-step slopes: of all, by family, by kind of block, and by both.

    Kinds and families stand in the order in which they appear.
    """
    every, counts = tuple(rows), []
    for metric in METRICS:
        own = [row for row in every if row.metric == metric]
        blocks = (None, *dict.fromkeys(row.block for row in own))
        families = (None, *dict.fromkeys(row.family for row in own))
        for block, family in product(blocks, families):
            part = [r for r in own if block in (None, r.block) and family in (None, r.family)]
            if part:
                signs = count_signs(row.equal_step for row in part)
                counts.append(SignCount(metric, len(part), *signs, block, family))
    return tuple(counts)
