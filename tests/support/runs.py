"""Tables of runs whose slopes are planted."""

import numpy as np
import pandas as pd

from layerwise.analysis.analyse import analyse_runs
from layerwise.analysis.names import DEPTHS, FIVE
from layerwise.analysis.run_tables import check_runs
from layerwise.depths import RELATIVE_DEPTHS
from support.cards import PROVENANCE

RELATIVE = np.array(RELATIVE_DEPTHS)


def straight(slope, *, level=0.5):
    """A profile that is a line of `slope` about `level`."""
    return level + slope * (RELATIVE - RELATIVE.mean())


def profile_rows(slopes, *, placement="all", seed=0):
    """Rows from ``{(model, objective, condition, metric): slope or seven values}``."""
    return [
        {
            "model": model,
            "objective": objective,
            "condition": condition,
            "placement": placement,
            "seed": seed,
            "metric": metric,
            **dict(zip(DEPTHS, straight(s) if np.isscalar(s) else s, strict=True)),
        }
        for (model, objective, condition, metric), s in slopes.items()
    ]


def study(
    *,
    models=("alpha", "beta"),
    objectives=("causal-lm", "causal-span", "simcse"),
    conditions=(*FIVE, "equal-step"),
    metrics=("procrustes", "cka"),
    seeds=(0,),
    blocks=("sequential", "parallel"),
    noise=0.0,
    distant=True,
    source="planted",
):
    """Runs of which the slope rises with the place of the objective, and halves at equal steps."""
    drawn = np.random.default_rng(0)
    rows = []
    for seed in seeds:
        slopes = {
            (model, objective, condition, metric): (0.1 + 0.1 * place)
            * (0.5 if condition == "equal-step" else 1.0)
            * (0.5 if metric == "cka" else 1.0)
            + noise * drawn.standard_normal()
            for model in models
            for place, objective in enumerate(objectives)
            for condition in conditions
            for metric in metrics
        }
        rows += profile_rows(slopes, seed=seed)
    distances = [
        {"model": model, "objective": objective, "cosine": 0.4 * place, "procrustes": 0.5 * place}
        for model in models
        for place, objective in enumerate(objectives)
    ]
    kinds = [
        {"model": m, "family": "decoder", "block": blocks[n % len(blocks)], "layers": 12}
        for n, m in enumerate(models)
    ]
    return check_runs(
        pd.DataFrame(rows),
        pd.DataFrame(distances) if distant else None,
        pd.DataFrame(kinds),
        source=source,
    )


def analysed(runs, **options):
    """The analysis of `runs`, made at a fixed time by a fixed machine."""
    return analyse_runs(runs, provenance=options.pop("provenance", PROVENANCE), **options)
