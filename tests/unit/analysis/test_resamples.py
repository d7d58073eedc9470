import numpy as np
import pandas as pd
import pytest

from layerwise.analysis.resamples import average_conditions, interval, mean_slopes, resample_slopes


def table(by_cell):
    """Slopes from ``{(objective, condition): {seed: slope}}``."""
    return pd.DataFrame(
        [
            {"model": "a", "objective": o, "condition": c, "metric": "cka", "seed": s, "slope": v}
            for (o, c), slopes in by_cell.items()
            for s, v in slopes.items()
        ]
    )


def figures(by_cell, *, bootstrap, seed=0):
    """The mean and the resamples of each cell, a column each."""
    found = resample_slopes(table(by_cell), bootstrap=bootstrap, seed=seed)
    return found, np.stack([slope.figures for slope in found.values()], axis=1)


def test_the_first_row_is_the_mean_over_the_seeds_that_there_are():
    found, means = figures({("p", "lora"): {0: 0.1, 1: 0.3}, ("q", "lora"): {1: 0.5}}, bootstrap=50)
    assert [key[1] for key in found] == ["p", "q"]
    assert [slope.seeds for slope in found.values()] == [2, 1]
    assert means[0] == pytest.approx([0.2, 0.5])
    assert means.shape == (51, 2)


def test_seeds_are_drawn_together():
    cells = {("p", "lora"): {0: 0.1, 1: 0.3}, ("q", "lora"): {0: 0.2, 1: 0.6}}
    _, means = figures(cells, bootstrap=200)
    assert means[:, 1] == pytest.approx(2 * means[:, 0])
    assert {round(v, 6) for v in means[1:, 0]} == {0.1, 0.2, 0.3}


def test_a_resample_without_runs_of_a_cell_is_left_out():
    cells = resample_slopes(
        table({("p", "lora"): {0: 0.1, 1: 0.3, 2: 0.2}, ("q", "lora"): {0: 0.5, 1: 0.7}}),
        bootstrap=500,
        seed=1,
    )
    figures = cells["a", "q", "lora", "cka"].figures
    assert np.isnan(figures).any()
    low, high = interval(figures, seeds=2)
    assert (low, high) == pytest.approx((0.5, 0.7))


def test_one_seed_has_one_row_and_no_interval():
    (row,) = mean_slopes(resample_slopes(table({("p", "lora"): {3: 0.4}}), bootstrap=100, seed=0))
    assert (row.slope, row.seeds, row.low, row.high) == (0.4, 1, None, None)


def test_the_interval_covers_the_middle_95_percent():
    figures = np.concatenate([[0.0], np.linspace(0, 1, 1001)])
    assert interval(figures, seeds=2) == pytest.approx((0.025, 0.975))
    assert interval(figures, seeds=1) == (None, None)
    assert interval(np.array([0.0, np.nan]), seeds=2) == (None, None)


def test_the_same_seed_gives_the_same_resamples():
    cells = {("p", "lora"): {s: 0.1 * s for s in range(5)}}
    first, same, other = (figures(cells, bootstrap=9, seed=n)[1] for n in (0, 0, 1))
    assert (first == same).all()
    assert (first != other).any()


def test_means_over_conditions_are_of_those_that_an_objective_has():
    cells = resample_slopes(
        table(
            {
                ("p", "lora"): {0: 0.1},
                ("p", "uniform"): {0: 0.3},
                ("q", "lora"): {0: 0.5},
                ("q", "equal-step"): {0: 0.9},
            }
        ),
        bootstrap=1,
        seed=0,
    )
    found = average_conditions(cells, model="a", metric="cka", objectives=["p", "q", "r"])
    assert found.objectives == ("p", "q")
    assert found.conditions == (2, 1)
    assert found.figures[0] == pytest.approx([0.2, 0.5])
    assert average_conditions(cells, model="b", metric="cka", objectives=["p"]).objectives == ()
