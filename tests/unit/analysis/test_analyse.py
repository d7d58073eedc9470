import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import layerwise
from layerwise.analysis.names import DEPTHS, FIVE
from layerwise.analysis.record import Analysis
from layerwise.analysis.run_tables import check_runs
from layerwise.records import from_plain

pytestmark = pytest.mark.slow  # Short runs, many of them.


def test_planted_slopes_come_out(planted_runs):
    made = planted_runs.analysed(planted_runs.study())
    slopes = {round(r.slope, 9) for r in made.mean_slopes if r.objective == "simcse"}
    assert slopes == {0.3, 0.15, 0.075}
    assert {round(row.ratio, 9) for row in made.equal_step} == {0.5}
    assert {round(row.rho, 9) for row in made.concordance} == {1.0}
    assert made.disagreements == made.negative == made.anomalies == ()
    assert [share.share for share in made.shares] == [1.0] * 4
    assert made.models[1].block == "parallel"
    assert (made.models[0].runs, made.models[0].objectives, made.models[0].layers) == (18, 3, 12)


def test_tables_in_hand_are_analysed_from_python(planted_runs):
    made = layerwise.analyse(planted_runs.study(seeds=(0, 1)), threshold=2.0)
    assert (made.source, made.settings.threshold) == ("planted", 2.0)
    assert made.provenance.device == "cpu"


def test_seeds_give_intervals(planted_runs):
    made = planted_runs.analysed(planted_runs.study(seeds=(0, 1, 2), noise=0.02))
    assert "intervals" not in made.absent
    assert all(r.low <= r.slope <= r.high and r.seeds == 3 for r in made.mean_slopes)
    assert all(r.low <= r.equal_step <= r.high for r in made.equal_step)
    assert all(r.low <= r.rho <= r.high for r in made.concordance)


def test_the_same_runs_give_the_same_bytes(planted_runs):
    runs = planted_runs.study(seeds=(0, 1), noise=0.02)
    first = planted_runs.analysed(runs).to_json()
    assert planted_runs.analysed(runs).to_json() == first


def test_one_model_has_no_p_value_below_one(planted_runs):
    made = planted_runs.analysed(planted_runs.study(models=("a",)))
    assert {test.p_value for test in made.sign_tests} == {1.0}


@pytest.mark.parametrize(
    ("how", "part", "reason", "empty"),
    [
        (
            {"distant": False},
            "concordance",
            "the distances of objectives were not measured",
            ("concordance", "sign_tests", "pooled", "fits", "points"),
        ),
        (
            {"conditions": ("standard", "lora")},
            "equal_step",
            "no run is under equal-step",
            ("equal_step", "sign_counts"),
        ),
        (
            {"conditions": ("equal-step",)},
            "widths",
            "no run under the five standard conditions has a CKA profile",
            ("widths",),
        ),
        (
            {"conditions": ("equal-step",)},
            "concordance",
            "no run is under the five standard conditions",
            ("concordance",),
        ),
    ],
)
def test_what_cannot_be_made_is_told_with_its_reason(planted_runs, how, part, reason, empty):
    made = planted_runs.analysed(planted_runs.study(**how))
    assert made.absent[part] == reason
    assert all(getattr(made, name) == () for name in empty)


@pytest.mark.parametrize(("metric", "other"), [("cka", "procrustes"), ("procrustes", "cka")])
def test_one_metric_is_noted(planted_runs, metric, other):
    made = planted_runs.analysed(planted_runs.study(metrics=(metric,)))
    assert f"no run has a {other} profile" in made.notes
    assert {row.metric for row in made.mean_slopes} == {metric}
    assert bool(made.widths) == (metric == "cka")
    assert ("widths" in made.absent) == (metric != "cka")


def test_distances_of_other_objectives_are_no_points(planted_runs):
    runs = planted_runs.study()
    far = runs.distances.assign(objective="elsewhere").drop_duplicates(["model"])
    made = planted_runs.analysed(check_runs(runs.profiles, far, runs.models, source="s"))
    assert made.absent["concordance"].startswith("no objective has both a distance and a slope")


def placed(planted_runs):
    """Runs on all blocks, and one on the low ones."""
    runs = planted_runs.study(conditions=("standard", "lora"))
    key = ("alpha", "simcse", "lora", "procrustes")
    low = planted_runs.profile_rows({key: -0.4}, placement="low")
    return check_runs(
        pd.concat([runs.profiles, pd.DataFrame(low)]), runs.distances, runs.models, source="s"
    )


def test_other_placements_are_among_the_slopes_and_nowhere_else(planted_runs):
    made = planted_runs.analysed(placed(planted_runs))
    assert [(run.placement, run.metric) for run in made.negative] == [("low", "procrustes")]
    assert all(row.slope > 0 for row in made.mean_slopes)
    assert made.notes == (
        "of other placements: 1 run, among the slopes and their signs and in no other part",
    )


def test_another_placement_can_be_chosen(planted_runs):
    made = planted_runs.analysed(placed(planted_runs), placement="low")
    (row,) = made.mean_slopes
    assert row.slope == pytest.approx(-0.4)


def test_a_placement_that_no_run_has_is_told_with_those_that_there_are(planted_runs):
    made = planted_runs.analysed(placed(planted_runs), placement="high")
    assert made.absent["widths"] == "no run has the placement 'high'; there is 'all', 'low'"
    assert made.mean_slopes == made.widths == made.concordance == ()
    assert made.shares


def test_conditions_that_differ_between_objectives_are_noted(planted_runs):
    runs = planted_runs.study()
    gone = (runs.profiles["objective"] == "simcse") & (runs.profiles["condition"] == "lora")
    gone &= runs.profiles["model"] == "beta"
    made = planted_runs.analysed(
        check_runs(runs.profiles[~gone], runs.distances, runs.models, source="s")
    )
    assert made.notes == (
        "the slopes of objectives are averaged over different conditions in: beta",
    )
    assert {row.conditions for row in made.concordance if row.model == "beta"} == {4}


def test_nothing_changed_anywhere(planted_runs):
    rows = planted_runs.profile_rows(
        {
            ("a", objective, condition, metric): np.zeros(7)
            for objective in ("p", "q", "r")
            for condition in (*FIVE, "equal-step")
            for metric in ("procrustes", "cka")
        }
    )
    far = pd.DataFrame({"model": "a", "objective": ["p", "q", "r"], "cosine": [0, 0.5, 1.0]})
    made = planted_runs.analysed(check_runs(pd.DataFrame(rows), far, source="s"))
    assert {share.zero for share in made.shares} == {15, 3}
    assert {row.shares for row in made.widths} == {()}
    assert {row.ratio for row in made.equal_step} == {None}
    assert {row.reason for row in made.concordance if row.distance == "cosine"} == {
        "all slopes are the same"
    }


CHANGES = st.one_of(
    st.just(0.0), st.floats(0, 1.4), st.floats(0, 1e-300), st.sampled_from([0.1, 0.5, 1e-7])
)
PROFILES = st.one_of(
    st.lists(CHANGES, min_size=7, max_size=7), CHANGES.map(lambda change: [change] * 7)
)
RUNS = st.dictionaries(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["causal-lm", "simcse", "nsp", "own"]),
        st.sampled_from(["standard", "lora", "equal-step", "top-m"]),
        st.sampled_from(["all", "low"]),
        st.integers(0, 2),
        st.sampled_from(["procrustes", "cka"]),
    ),
    PROFILES,
    min_size=1,
    max_size=24,
)
DISTANCES = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["causal-lm", "simcse", "nsp"])),
    st.tuples(*[st.one_of(st.none(), st.just(0.0), st.floats(0, 1.4))] * 2),
    max_size=9,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(runs=RUNS, far=DISTANCES)
def test_any_table_is_analysed_into_a_record_without_nan(planted_runs, runs, far):
    names = ["model", "objective", "condition", "placement", "seed", "metric"]
    profiles = pd.DataFrame([[*key, *p] for key, p in runs.items()], columns=[*names, *DEPTHS])
    columns = ["model", "objective", "cosine", "procrustes"]
    distances = pd.DataFrame([[*key, *d] for key, d in far.items()], columns=columns)
    made = planted_runs.analysed(check_runs(profiles, distances, source="any"))
    plain = made.to_plain()
    made.to_json()  # Raises where a number is not finite.
    assert from_plain(plain, Analysis, source="any") == made
    assert len(made.slopes) == len(runs)
    for row in made.concordance:
        assert (row.rho is None) != (row.reason is None)
        assert row.rho is None or -1 <= row.rho <= 1
    for row in made.equal_step:
        assert (row.ratio is None) != (row.reason is None)
    for row in made.widths:
        assert len(row.shares) == (7 if row.runs else 0)
        assert math.isclose(sum(row.shares), 1) or not row.shares
