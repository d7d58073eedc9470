import numpy as np
import pandas as pd
import pytest

from layerwise.analysis.cells import averaged, cells_of, mean_slopes
from layerwise.analysis.intervals import interval, over_seeds


def table(by_cell):
    """Slopes from ``{(objective, condition): {seed: slope}}``."""
    return pd.DataFrame(
        [
            {"model": "a", "objective": o, "condition": c, "metric": "cka", "seed": s, "slope": v}
            for (o, c), slopes in by_cell.items()
            for s, v in slopes.items()
        ]
    )


def test_the_first_row_is_the_mean_over_the_seeds_that_there_are():
    cells, means = over_seeds(
        table({("p", "lora"): {0: 0.1, 1: 0.3}, ("q", "lora"): {1: 0.5}}), bootstrap=50, seed=0
    )
    assert list(cells["objective"]) == ["p", "q"]
    assert cells["seeds"].tolist() == [2, 1]
    assert means[0] == pytest.approx([0.2, 0.5])
    assert means.shape == (51, 2)


def test_seeds_are_drawn_together():
    _, means = over_seeds(
        table({("p", "lora"): {0: 0.1, 1: 0.3}, ("q", "lora"): {0: 0.2, 1: 0.6}}),
        bootstrap=200,
        seed=0,
    )
    assert means[:, 1] == pytest.approx(2 * means[:, 0])
    assert {round(v, 6) for v in means[1:, 0]} == {0.1, 0.2, 0.3}


def test_a_resample_without_runs_of_a_cell_is_left_out():
    cells = cells_of(
        table({("p", "lora"): {0: 0.1, 1: 0.3, 2: 0.2}, ("q", "lora"): {0: 0.5, 1: 0.7}}),
        bootstrap=500,
        seed=1,
    )
    figures = cells["a", "q", "lora", "cka"].figures
    assert np.isnan(figures).any()
    low, high = interval(figures, seeds=2)
    assert (low, high) == pytest.approx((0.5, 0.7))


def test_one_seed_has_one_row_and_no_interval():
    (row,) = mean_slopes(cells_of(table({("p", "lora"): {3: 0.4}}), bootstrap=100, seed=0))
    assert (row.slope, row.seeds, row.low, row.high) == (0.4, 1, None, None)


def test_the_interval_covers_the_middle_95_percent():
    figures = np.concatenate([[0.0], np.linspace(0, 1, 1001)])
    assert interval(figures, seeds=2) == pytest.approx((0.025, 0.975))
    assert interval(figures, seeds=1) == (None, None)
    assert interval(np.array([0.0, np.nan]), seeds=2) == (None, None)


def test_the_same_seed_gives_the_same_resamples():
    slopes = table({("p", "lora"): {s: 0.1 * s for s in range(5)}})
    first, same, other = (over_seeds(slopes, bootstrap=9, seed=n)[1] for n in (0, 0, 1))
    assert (first == same).all()
    assert (first != other).any()


def test_means_over_conditions_are_of_those_that_an_objective_has():
    cells = cells_of(
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
    found = averaged(cells, model="a", metric="cka", objectives=["p", "q", "r"])
    assert found.objectives == ("p", "q")
    assert found.conditions == (2, 1)
    assert found.figures[0] == pytest.approx([0.2, 0.5])
    assert averaged(cells, model="b", metric="cka", objectives=["p"]).objectives == ()
