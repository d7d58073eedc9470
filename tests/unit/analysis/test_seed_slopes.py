import numpy as np
import pandas as pd
import pytest

from layerwise.analysis.seed_slopes import average_conditions, interval, mean_slopes, seed_slopes
from layerwise.intervals import mean_interval


def table(by_cell):
    """Slopes from ``{(objective, condition): {seed: slope}}``."""
    return pd.DataFrame(
        [
            {"model": "a", "objective": o, "condition": c, "metric": "cka", "seed": s, "slope": v}
            for (o, c), slopes in by_cell.items()
            for s, v in slopes.items()
        ]
    )


def figures(by_cell):
    """The mean of each cell, then without each seed, a column each."""
    found = seed_slopes(table(by_cell))
    return found, np.stack([slope.figures for slope in found.values()], axis=1)


def test_the_first_row_is_the_mean_over_the_seeds_that_there_are():
    found, means = figures({("p", "lora"): {0: 0.1, 1: 0.3}, ("q", "lora"): {1: 0.5}})
    assert [key[1] for key in found] == ["p", "q"]
    assert [slope.seeds for slope in found.values()] == [2, 1]
    assert means[0] == pytest.approx([0.2, 0.5])
    assert means[1:, 0] == pytest.approx([0.3, 0.1])
    assert np.isnan(means[2, 1])  # Without its only seed.


def test_an_interval_is_that_of_the_values_of_the_seeds():
    values = {0: 0.1, 1: 0.3, 2: 0.2, 3: 0.6}
    (row,) = mean_slopes(seed_slopes(table({("p", "lora"): values})))
    assert (row.low, row.high) == pytest.approx(mean_interval([*values.values()]))


def test_few_seeds_have_no_interval():
    for values in ({3: 0.4}, {0: 0.1, 1: 0.2}):
        (row,) = mean_slopes(seed_slopes(table({("p", "lora"): values})))
        assert (row.seeds, row.low, row.high) == (len(values), None, None)
    assert interval(np.array([0.0, np.nan, 0.1, 0.2]), seeds=3) == (None, None)


def test_means_over_conditions_are_of_those_that_an_objective_has():
    cells = seed_slopes(
        table(
            {
                ("p", "lora"): {0: 0.1},
                ("p", "uniform"): {0: 0.3},
                ("q", "lora"): {0: 0.5},
                ("q", "equal-step"): {0: 0.9},
            }
        )
    )
    found = average_conditions(cells, model="a", metric="cka", objectives=["p", "q", "r"])
    assert found.objectives == ("p", "q")
    assert found.conditions == (2, 1)
    assert found.figures[0] == pytest.approx([0.2, 0.5])
    assert average_conditions(cells, model="b", metric="cka", objectives=["p"]).objectives == ()
