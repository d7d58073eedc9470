import pandas as pd
import pytest

from layerwise.analysis.equal_step_slopes import equal_step, same_seeds, sign_counts
from layerwise.analysis.run_tables import check_runs
from layerwise.analysis.seed_slopes import seed_slopes
from layerwise.analysis.slopes import slope_table

KEY = ("a", "simcse")


@pytest.fixture
def rows(planted_runs):
    """The equal-step rows of slopes by seed: ``{seed: {condition: slope}}``, of one pair."""

    def made(by_seed, *, block="parallel"):
        table = [
            row
            for seed, slopes in by_seed.items()
            for row in planted_runs.profile_rows(
                {(*KEY, name, "procrustes"): slope for name, slope in slopes.items()}, seed=seed
            )
        ]
        kinds = pd.DataFrame([{"model": "a", "block": block}])
        runs = check_runs(pd.DataFrame(table), models=kinds, source="planted")
        pairs = same_seeds(slope_table(runs))
        return equal_step(seed_slopes(pairs), runs.models)

    return made


def test_the_ratio_is_equal_step_over_standard(rows):
    (row,) = rows({0: {"standard": 0.4, "equal-step": 0.1, "uniform": 0.9}})
    assert (row.model, row.objective, row.block) == (*KEY, "parallel")
    assert row.family == "contrastive"
    assert (row.standard, row.equal_step, row.ratio) == pytest.approx((0.4, 0.1, 0.25))
    assert (row.seeds, row.low, row.ratio_low, row.reason) == (1, None, None, None)


def test_only_seeds_with_both_are_compared(rows):
    (row,) = rows(
        {
            0: {"standard": 0.4, "equal-step": 0.2},
            1: {"standard": 0.2, "equal-step": 0.1},
            2: {"equal-step": 0.9},
            3: {"standard": 0.9},
        }
    )
    assert row.seeds == 2
    assert (row.standard, row.equal_step, row.ratio) == pytest.approx((0.3, 0.15, 0.5))


def test_a_ratio_that_is_the_same_in_every_seed_has_a_narrow_interval(rows):
    (row,) = rows({s: {"standard": 0.1 * (s + 1), "equal-step": 0.05 * (s + 1)} for s in range(5)})
    assert (row.ratio_low, row.ratio_high) == pytest.approx((0.5, 0.5))
    assert row.low < row.equal_step < row.high


def test_without_a_standard_run_there_is_no_ratio(rows):
    (row,) = rows({0: {"equal-step": 0.1}, 1: {"standard": 0.2}})
    assert row.equal_step == pytest.approx(0.1)
    assert (row.standard, row.ratio) == (None, None)
    assert row.reason == "no run under the standard condition of the same seed"


def test_over_a_standard_slope_of_zero_there_is_no_ratio(rows):
    (row,) = rows({0: {"standard": 0.0, "equal-step": 0.1}})
    assert (row.standard, row.ratio) == (0.0, None)
    assert row.reason == "the slope under the standard condition is 0"


def test_no_equal_step_no_row(rows):
    assert rows({0: {"standard": 0.3}}) == ()


def test_signs_by_block_and_family(planted_runs):
    slopes = {
        ("seq", "causal-lm"): 0.2,
        ("seq", "simcse"): -0.1,
        ("seq", "dpo"): 0.0,
        ("par", "causal-lm"): 0.1,
        ("par", "simcse"): -0.3,
    }
    rows = planted_runs.profile_rows(
        {(*key, "equal-step", "cka"): slope for key, slope in slopes.items()}
    )
    kinds = pd.DataFrame({"model": ["seq", "par"], "block": ["sequential", "parallel"]})
    runs = check_runs(pd.DataFrame(rows), models=kinds, source="planted")
    cells = seed_slopes(same_seeds(slope_table(runs)))
    found = {
        (c.block, c.family): (c.pairs, c.positive, c.negative, c.zero)
        for c in sign_counts(equal_step(cells, runs.models))
    }
    assert found[None, None] == (5, 2, 2, 1)
    assert found["sequential", None] == (3, 1, 1, 1)
    assert found["parallel", None] == (2, 1, 1, 0)
    assert found[None, "contrastive"] == (2, 0, 2, 0)
    assert found[None, "other"] == (1, 0, 0, 1)
    assert found["parallel", "token-prediction"] == (1, 1, 0, 0)
    assert ("parallel", "other") not in found
