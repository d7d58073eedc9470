"""Where the advice lands among its rivals, without a bound and within a goal: tables.

    python experiments/recommended.py docs/evidence/measures [--calibration docs/evidence]
        [--into docs/evidence.md]

Each folder in the first argument holds the measure.json that one `layerwise measure` wrote. With
the folder that `placements.py` fills, its predictors are held against the measured placements too,
by its cards and at its dampings, which other sets chose. The tables are printed, or put between the
two comments that mark their place in a document and bear the folder's name.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from documents import interval, markdown, show
from laboratory.agreement import Strata, ceiling
from laboratory.calibration import Calibration
from laboratory.predictors import PREDICTORS
from layerwise.card.record import LayerCard
from layerwise.intervals import percentiles
from layerwise.measure.arms import bounds
from layerwise.measure.record import ArmResult, Measure
from layerwise.measure.trial import Trial
from layerwise.placement.rows import resolve_rows
from layerwise.report.documents.measure import arm_blocks

Score = Callable[[Trial], float]


def fall(trial: Trial) -> float:
    return trial.loss_before - trial.loss_after


def mean(arm: ArmResult, score: Score) -> float:
    return statistics.fmean(score(trial) for trial in arm.trials)


def advised(made: Measure) -> list[ArmResult]:
    """What the tool itself would place, by default and within each goal that could be met."""
    names = (made.recommended, *bounds())
    return [arm for name in names for arm in made.arms if arm.name == name and arm.trials]


def rivals(made: Measure) -> list[ArmResult]:
    """The arms with as many blocks and parameters that ran, each placement once."""
    ran = [arm for arm in made.arms if arm.equal and arm.trials]
    found = {arm.blocks: arm for arm in ran if len(arm.blocks) == made.budget.layers}
    return list(found.values())


def scores(made: Measure) -> dict[str, Score]:
    """What an arm is judged by: how far the loss fell, and the named quality."""
    found: dict[str, Score] = {"loss": fall}
    return found if made.quality == "loss" else found | {made.quality: lambda t: t.improvement}


def verdict_row(name: str, made: Measure, arm: ArmResult, *, what: str, score: Score) -> list[str]:
    """How `arm` did by `score`, and whether that is what is asked of the advice."""
    everywhere = made.arm("all")
    own, whole = mean(arm, score), mean(everywhere, score)
    others = rivals(made)
    place = 1 + sum(mean(other, score) > own for other in others)
    draws = [mean(other, score) for other in made.arms if other.kind == "random" and other.trials]
    median = statistics.median(draws) if draws else math.nan  # No draw: nothing to be above.
    ratio = arm.outcome.step_ratio if arm.outcome else None
    return [
        name,
        arm.name,
        what,
        f"{len(arm.blocks)} of {len(everywhere.blocks)}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{own:.4f}",
        f"{whole:.4f}",
        f"{own / whole:.0%}",
        f"{median:.4f}" if draws else "",
        f"{place} of {len(others)}",
        told(
            step=ratio is not None and ratio <= 0.75,
            kept=own >= 0.95 * whole,
            draws=own >= median,
            quarter=place <= math.ceil(len(others) / 4),
        ),
    ]


def seeds_row(name: str, made: Measure, *, what: str, score: Score) -> list[str]:
    """How alike the seeds rank the placements of as many blocks; empty with one seed."""
    others = rivals(made)
    gains = np.array([[score(trial) for trial in arm.trials] for arm in others])
    found = ceiling(Strata.of([arm.blocks for arm in others]), gains)
    between = "" if found is None else f"{found.between_seeds:.2f}"
    return [name, what, str(len(others)), str(len(made.seeds)), between]


def predictor_rows(made: Mapping[str, Measure], known: Path) -> list[list[str]]:
    """How each predictor ranks the placements of as many blocks, on each pair."""
    cards = {name: LayerCard.load(known / "cards" / name) for name in made}
    rows = []
    for family in Calibration.load(known).families:
        damping = family.damping or 0.0
        found = [ranking(made[name], cards[name], family.name, damping) for name in made]
        rows.append([family.name, *found, "" if family.damping is None else f"{damping:g}"])
    return rows


def ranking(made: Measure, card: LayerCard, predictor: str, damping: float) -> str:
    """The rank correlation of a prediction with what was measured, and its interval."""
    others = rivals(made)
    sets = [resolve_rows(card, arm.blocks) for arm in others]
    foretold = np.array([PREDICTORS[predictor](card, rows, damping=damping) for rows in sets])
    gained = np.array([mean(arm, fall) for arm in others])
    strata = Strata.of(sets)
    ends = percentiles(strata.bootstrap(foretold, gained))
    return interval(strata.agreement(foretold, gained), *ends)


def told(**asked: bool) -> str:
    """What of the four was met."""
    met = [name for name, is_met in asked.items() if is_met]
    return "all" if len(met) == len(asked) else ", ".join(met) or "none"


def arm_rows(name: str, made: Measure) -> list[list[str]]:
    """Every arm of a measurement, the best first."""
    rows = []
    for arm in made.arms:
        if arm.outcome is None:
            rows.append([name, arm.name, "", "", "", "", arm.failed or ""])
            continue
        spread = arm.outcome
        between = "" if spread.low is None else f" ({spread.low:.4f} to {spread.high:.4f})"
        rows.append(
            [
                name,
                arm.name,
                arm_blocks(arm),
                f"{arm.learning_rate:g}",
                f"{spread.improvement:.4f}{between}",
                "" if spread.step_ratio is None else f"{spread.step_ratio:.2f}",
                f"the same as {arm.same_as}" if arm.same_as else "",
            ]
        )
    return rows


def tables(folder: Path, known: Path | None = None) -> str:
    made = {path.parent.name: Measure.load(path) for path in sorted(folder.glob("*/measure.json"))}
    head = ["pair", "advice", "by", "blocks", "step", "gain", "all", "kept", "median draw", "place"]
    verdicts = [
        verdict_row(name, one, arm, what=what, score=score)
        for name, one in made.items()
        for arm in advised(one)
        for what, score in scores(one).items()
    ]
    seeds = [
        seeds_row(name, one, what=what, score=score)
        for name, one in made.items()
        for what, score in scores(one).items()
    ]
    arms = [row for name, one in made.items() for row in arm_rows(name, one)]
    columns = ["pair", "arm", "blocks", "rate", "improvement", "step", ""]
    noise = ["pair", "by", "placements", "seeds", "between seeds"]
    shown = [([*head, "met"], verdicts), (noise, seeds), (columns, arms)]
    if known is not None:
        shown.append((["predictor", *made, "damping"], predictor_rows(made, known)))
    return "\n\n".join(markdown(*table) for table in shown)


def main() -> None:
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("folder", type=Path)
    made.add_argument("--calibration", type=Path, help="what placements.py wrote, with its cards")
    made.add_argument("--into", type=Path, help="the document that takes the tables")
    asked = made.parse_args()
    begin, end = (f"<!-- {asked.folder.name}: {edge} -->" for edge in ("begin", "end"))
    show(tables(asked.folder, asked.calibration), asked.into, begin=begin, end=end)


if __name__ == "__main__":
    main()
