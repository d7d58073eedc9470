import numpy as np
import pandas as pd
import pytest

from layerwise.analysis.run_tables import check_runs
from layerwise.analysis.slopes import clean_slope, disagreements, negative, shares, slope_table


@pytest.fixture
def table(planted_runs):
    """Makes a table of slopes of ``{(model, objective, condition, metric): slope}``."""

    def made(slopes, **how):
        rows = planted_runs.profile_rows(slopes, **how)
        return slope_table(check_runs(pd.DataFrame(rows), source="planted"))

    return made


@pytest.mark.parametrize("level", [0.0, 1e-12, 0.1, 0.3, 1.1])
def test_the_same_at_every_depth_is_a_slope_of_exactly_zero(level):
    assert clean_slope(np.full((1, 7), level)).tolist() == [0.0]


def test_a_slope_far_smaller_than_the_change_is_still_one(planted_runs):
    assert clean_slope(planted_runs.straight(1e-9)[None])[0] == pytest.approx(1e-9, rel=1e-5)


def test_signs_are_counted_by_metric_and_conditions(table):
    slopes = table(
        {
            ("a", "nsp", "standard", "procrustes"): 0.3,
            ("a", "nsp", "uniform", "procrustes"): -0.1,
            ("a", "nsp", "lora", "procrustes"): 0.0,
            ("a", "nsp", "equal-step", "procrustes"): 0.1,
            ("a", "nsp", "top-m", "procrustes"): -0.1,
        }
    )
    found = {(s.metric, s.conditions): s for s in shares(slopes)}
    assert list(found) == [
        ("procrustes", "five-standard"),
        ("procrustes", "equal-step"),
        ("procrustes", "top-m"),
    ]
    five = found["procrustes", "five-standard"]
    assert (five.runs, five.positive, five.negative, five.zero) == (3, 1, 1, 1)
    assert five.share == pytest.approx(1 / 3)


def test_negative_runs_are_those_of_the_five_conditions(table):
    slopes = table(
        {
            ("a", "nsp", "lora", "cka"): -0.3,
            ("a", "nsp", "equal-step", "cka"): -0.3,
            ("a", "nsp", "uniform", "cka"): 0.0,
        }
    )
    assert [(run.condition, run.metric) for run in negative(slopes)] == [("lora", "cka")]


def test_metrics_that_differ_in_sign_are_named_with_both_slopes(table):
    slopes = table(
        {
            ("a", "nsp", "standard", "procrustes"): 0.3,
            ("a", "nsp", "standard", "cka"): -0.1,
            ("a", "nsp", "lora", "procrustes"): 0.3,
            ("a", "nsp", "lora", "cka"): 0.1,
            ("a", "nsp", "uniform", "procrustes"): 0.0,
            ("a", "nsp", "uniform", "cka"): 0.1,
            ("a", "nsp", "frozen-norm", "procrustes"): -0.1,  # Nothing to differ from.
        },
        seed=4,
    )
    first, second = disagreements(slopes)
    assert (first.condition, first.seed) == ("standard", 4)
    assert (first.procrustes, first.cka) == pytest.approx((0.3, -0.1))
    assert (second.condition, second.procrustes) == ("uniform", 0.0)


def test_one_metric_cannot_disagree(table):
    assert disagreements(table({("a", "nsp", "lora", "cka"): -0.3})) == ()
