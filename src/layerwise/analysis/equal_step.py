"""Equal-step against standard: what is left of a slope, and for which blocks and objectives."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from layerwise.analysis.cells import Cell, Cells
from layerwise.analysis.intervals import interval
from layerwise.analysis.names import EQUAL_STEP, METRICS, family_of
from layerwise.analysis.record import EqualStep, SignCount
from layerwise.shapes import Array, Float64

__all__ = ["equal_step", "same_seeds", "sign_counts"]

_PAIR = ["model", "objective", "metric"]

_GROUPS = ("block", "family")


def same_seeds(slopes: pd.DataFrame) -> pd.DataFrame:
    """The rows under equal-step and standard of the seeds that have both.

    A model and objective without such a seed keeps its equal-step rows, alone.
    """
    both = slopes[slopes["condition"].isin([EQUAL_STEP, "standard"])]
    shared = both.groupby([*_PAIR, "seed"])["condition"].transform("nunique") == 2
    any_shared = shared.groupby([both[name] for name in _PAIR]).transform("any")
    return both[shared | (~any_shared & (both["condition"] == EQUAL_STEP))]


def equal_step(cells: Cells, models: pd.DataFrame) -> tuple[EqualStep, ...]:
    """A row for each model, objective and metric that has a run under equal-step.

    Args:
        cells: Made of `same_seeds`.
        models: A row a model, with its kind of block.
    """
    blocks = dict(zip(models["model"], models["block"], strict=True))
    return tuple(
        _row(
            (model, objective, metric),
            blocks[model],
            cell,
            cells.get((model, objective, "standard", metric)),
        )
        for (model, objective, condition, metric), cell in cells.items()
        if condition == EQUAL_STEP
    )


def _row(names: tuple[str, str, str], block: str, equal: Cell, standard: Cell | None) -> EqualStep:
    model, objective, metric = names
    low, high = interval(equal.figures, seeds=equal.seeds)
    row = EqualStep(
        model,
        objective,
        metric,
        block,
        family_of(objective),
        equal.seeds,
        equal.slope,
        low=low,
        high=high,
    )
    return _against(row, equal, standard)


def _against(row: EqualStep, equal: Cell, standard: Cell | None) -> EqualStep:
    """The row with its ratio to the standard condition, or with why there is none."""
    if standard is None:
        return replace(row, reason="no run under the standard condition of the same seed")
    ratios = _divided(equal.figures, standard.figures)
    if not np.isfinite(ratios[0]):
        reason = "the slope under the standard condition is 0"
        return replace(row, standard=standard.slope, reason=reason)
    low, high = interval(ratios, seeds=min(equal.seeds, standard.seeds))
    return replace(
        row, standard=standard.slope, ratio=float(ratios[0]), ratio_low=low, ratio_high=high
    )


def _divided(above: Float64[Array, " b"], below: Float64[Array, " b"]) -> Float64[Array, " b"]:
    """The quotients; not finite over what is 0 or next to it."""
    with np.errstate(over="ignore"):
        return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def sign_counts(rows: Iterable[EqualStep]) -> tuple[SignCount, ...]:
    """Signs of the equal-step slopes: of all, by family, by kind of block, and by both."""
    every = tuple(rows)
    return tuple(
        count
        for metric in METRICS
        for count in _counted([row for row in every if row.metric == metric])
    )


def _counted(rows: list[EqualStep]) -> Iterator[SignCount]:
    """Counts of rows of one metric; kinds and families in the order in which they appear."""
    if not rows:
        return
    blocks, families = ([None, *dict.fromkeys(getattr(r, n) for r in rows)] for n in _GROUPS)
    for block, family in product(blocks, families):
        part = [r for r in rows if block in (None, r.block) and family in (None, r.family)]
        if not part:
            continue
        signs = Counter(int(np.sign(row.equal_step)) for row in part)
        yield SignCount(
            part[0].metric, len(part), signs[1], signs[-1], signs[0], block=block, family=family
        )
