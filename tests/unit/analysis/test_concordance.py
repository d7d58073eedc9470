import numpy as np
import pandas as pd
import pytest
from scipy import stats

from layerwise.analysis.concordance import (
    concordance,
    correlations,
    distance_points,
    pooled,
    sign_tests,
)
from layerwise.analysis.names import FIVE
from layerwise.analysis.record import Concordance, Point
from layerwise.analysis.run_tables import check_runs
from layerwise.analysis.seed_slopes import seed_slopes
from layerwise.analysis.slopes import slope_table


@pytest.fixture
def found(planted_runs):
    """The correlations of one model: slopes and distances by objective."""

    def made(slopes, distances, conditions=("standard",)):
        rows = planted_runs.profile_rows(
            {("a", o, c, "procrustes"): s for o, s in slopes.items() for c in conditions}
        )
        far = pd.DataFrame(
            {"model": "a", "objective": list(distances), "cosine": list(distances.values())}
        )
        runs = check_runs(pd.DataFrame(rows), far, source="planted")
        cells = seed_slopes(slope_table(runs))
        return {(r.distance, r.metric): r for r in concordance(cells, runs.distances)}

    return made


def test_ties_share_their_rank(found):
    slopes = {"o": 0.1, "p": 0.2, "q": 0.3, "r": 0.1}
    far = {"o": 0.0, "p": 0.5, "q": 0.5, "r": 0.2}
    row = found(slopes, far)["cosine", "procrustes"]
    assert row.rho == pytest.approx(stats.spearmanr([0, 0.5, 0.5, 0.2], [0.1, 0.2, 0.3, 0.1])[0])


@pytest.mark.parametrize(
    ("slopes", "distances", "reason"),
    [
        ({"o": 0.1}, {"p": 0.1}, "no objective has both a distance and a slope"),
        ({"o": 0.1, "p": 0.2}, {"o": 0.1, "p": 0.3}, "2 of at least 3 objectives"),
        ({"o": 0.1, "p": 0.2, "q": 0.3}, {"o": 0.5, "p": 0.5, "q": 0.5}, "all distances are"),
        ({"o": 0.2, "p": 0.2, "q": 0.2}, {"o": 0.1, "p": 0.2, "q": 0.3}, "all slopes are"),
    ],
)
def test_where_there_is_no_correlation_it_says_why(found, slopes, distances, reason):
    row = found(slopes, distances)["cosine", "procrustes"]
    assert row.rho is None
    assert row.reason.startswith(reason)


def test_a_distance_that_was_not_measured_leaves_its_rows_without_correlation(found):
    row = found({"o": 0.1, "p": 0.2, "q": 0.3}, {"o": 0, "p": 0.4, "q": 1})[
        "procrustes", "procrustes"
    ]
    assert (row.rho, row.objectives) == (None, 0)


def test_equal_step_is_not_in_the_mean(found):
    slopes, far = {"o": 0.1, "p": 0.2, "q": 0.3}, {"o": 0.0, "p": 0.4, "q": 1.0}
    rows = found(slopes, far, conditions=(*FIVE, "equal-step"))
    assert rows["cosine", "procrustes"].conditions == 5
    assert found(slopes, far, conditions=("equal-step",))["cosine", "procrustes"].rho is None


def test_rows_that_are_constant_or_incomplete_have_no_correlation():
    figures = np.array([[1.0, 2, 3], [2, 2, 2], [1, np.nan, 3], [3, 2, 1]])
    got = correlations(figures, np.array([0.0, 1, 2]))
    assert got[[0, 3]] == pytest.approx([1, -1])
    assert np.isnan(got[[1, 2]]).all()


def rhos(*values):
    return [Concordance(f"m{n}", "cosine", "cka", 4, 5, rho) for n, rho in enumerate(values)]


def test_the_sign_test_leaves_out_zero_and_absent():
    (test,) = sign_tests(rhos(0.5, 0.1, -0.2, 0.0, None, 1.0))
    assert (test.models, test.positive, test.negative, test.zero) == (5, 3, 1, 1)
    assert test.p_value == pytest.approx(stats.binomtest(3, 4).pvalue)


def test_zeros_alone_decide_nothing():
    (test,) = sign_tests(rhos(0.0, 0.0))
    assert (test.models, test.p_value) == (2, None)
    assert sign_tests(rhos(None)) == ()


def points(*pairs):
    return [
        Point("m", f"o{n}", "cosine", "cka", *map(float, pair), 5) for n, pair in enumerate(pairs)
    ]


def test_references_are_what_stands_at_distance_zero():
    every, without = pooled(points((0, 0.9), (0, 0.8), (0.1, 0.1), (0.2, 0.2), (0.3, 0.4)))
    assert (every.references, every.points) == (True, 5)
    assert (without.references, without.points) == (False, 3)
    assert without.rho == pytest.approx(1.0)
    assert every.rho == pytest.approx(stats.spearmanr([0, 0, 1, 2, 3], [9, 8, 1, 2, 4])[0])


def test_few_points_have_no_pooled_correlation():
    every, without = pooled(points((0, 0.9), (0, 0.8), (0.1, 0.1)))
    assert every.rho is not None
    assert (without.rho, without.reason) == (None, "1 of at least 3 objectives")


def test_points_are_pairs_with_both(planted_runs):
    runs = planted_runs.study(models=("a",), metrics=("cka",))
    far = runs.distances[runs.distances["objective"] != "simcse"]
    cells = seed_slopes(slope_table(runs))
    got = [(p.objective, p.distance, p.at) for p in distance_points(cells, far)]
    assert got == [
        ("causal-lm", "procrustes", 0.0),
        ("causal-span", "procrustes", 0.5),
        ("causal-lm", "cosine", 0.0),
        ("causal-span", "cosine", 0.4),
    ]
