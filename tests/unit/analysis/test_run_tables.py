import numpy as np
import pandas as pd
import pytest

from layerwise.analysis.run_tables import check_runs
from layerwise.errors import BadInputError, SchemaError, UnknownNameError


@pytest.fixture
def table(planted_runs):
    """A row of each metric of two runs."""
    slopes = {
        ("alpha", objective, "standard", metric): 0.2
        for objective in ("mlm", "simcse")
        for metric in ("procrustes", "cka")
    }
    return pd.DataFrame(planted_runs.profile_rows(slopes))


def distances(**more):
    return pd.DataFrame([{"model": "alpha", "objective": "mlm", "cosine": 0.1} | more])


def test_placement_and_seed_may_be_absent(table):
    runs = check_runs(table.drop(columns=["placement", "seed"]), source="here")
    assert set(runs.profiles["placement"]) == {"all"}
    assert set(runs.profiles["seed"]) == {0}
    assert runs.source == "here"


def test_objectives_go_by_one_name(table):
    runs = check_runs(table, distances(), source="here")
    assert list(dict.fromkeys(runs.profiles["objective"])) == ["masked-lm", "simcse"]
    assert list(runs.distances["objective"]) == ["masked-lm"]


def test_what_was_given_stays_as_it_was(table):
    before = table.copy()
    far, kinds = distances(), pd.DataFrame([{"model": "alpha", "block": "parallel"}])
    befores = far.copy(), kinds.copy()
    check_runs(table, far, kinds, source="here")
    for now, then in zip((table, far, kinds), (before, *befores), strict=True):
        pd.testing.assert_frame_equal(now, then)


def test_a_model_that_nothing_is_told_of_is_unknown_and_noted(table):
    runs = check_runs(table, source="here")
    assert runs.models.iloc[0][["family", "block"]].tolist() == ["unknown", "unknown"]
    assert runs.models["layers"].isna().all()
    assert runs.notes == ("the kind of block is not told of: alpha",)


def test_models_without_runs_are_left_out_and_the_table_s_order_is_kept(table):
    both = pd.concat([table, table.assign(model="beta")])
    kinds = pd.DataFrame({"model": ["beta", "gone", "alpha"], "block": "parallel"})
    runs = check_runs(both, models=kinds, source="here")
    assert list(runs.models["model"]) == ["beta", "alpha"]
    assert list(dict.fromkeys(runs.profiles["model"])) == ["beta", "alpha"]


def test_a_distance_may_be_missing(table):
    runs = check_runs(table, distances(procrustes=None), source="here")
    assert runs.distances["cosine"].tolist() == [0.1]
    assert runs.distances["procrustes"].isna().all()


def test_distances_of_several_seeds_are_averaged(table):
    both = pd.concat([distances(seed=0), distances(seed=1, cosine=0.3)])
    runs = check_runs(table, both, source="here")
    assert runs.distances["cosine"].tolist() == pytest.approx([0.2])


def test_rounding_below_zero_is_zero(table):
    table.loc[0, "d0.10"] = -1e-9
    assert check_runs(table, source="here").profiles["d0.10"].iloc[0] == 0.0


def test_the_hash_is_of_the_content(table):
    runs = [check_runs(t, source=s) for t, s in ((table, "a"), (table.copy(), "b"))]
    assert runs[0].sha256 == runs[1].sha256
    other = table.copy()
    other.loc[0, "d0.10"] += 1e-9
    assert check_runs(other, source="a").sha256 != runs[0].sha256


def with_cell(column, row, value):
    """Return what puts another value into one place of a table."""

    def change(table):
        made = table.astype({column: object})
        made.loc[row, column] = value
        return made

    return change


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        *(
            (lambda t, c=c: t.drop(columns=c), SchemaError, f"profiles without a column: '{c}'")
            for c in ("model", "condition", "metric", "d0.40")
        ),
        *(
            (with_cell("d0.25", 2, v), SchemaError, r"d0\.25 in .* profiles.*simcse standard all 0")
            for v in (np.nan, np.inf, -np.inf, -0.1, "much", None)
        ),
        *(
            (with_cell("model", 1, v), SchemaError, "table of profiles with an empty model")
            for v in (None, "", np.nan)
        ),
        *(
            (with_cell("seed", 1, v), SchemaError, "seed that is no whole number")
            for v in ("first", 0.5, np.inf, None)
        ),
        (with_cell("metric", 0, "procrustse"), UnknownNameError, "did you mean 'procrustes'"),
        (
            lambda t: pd.concat([t, t.iloc[:1].assign(objective="masked-lm")]),
            SchemaError,
            "row that stands twice: 'alpha masked-lm standard all 0",
        ),
        (lambda t: t.iloc[:0], BadInputError, "no finished run to analyse"),
    ],
)
def test_a_fault_in_the_profiles_is_named(table, change, error, says):
    with pytest.raises(error, match=says):
        check_runs(change(table), source="here")


KINDS = pd.DataFrame({"model": ["alpha"], "block": "parallel"})


@pytest.mark.parametrize(
    ("far", "kinds", "match"),
    [
        (None, KINDS.assign(layers=1.5), "layers that is no whole number"),
        (None, pd.concat([KINDS, KINDS]), "table of models with a row that stands twice"),
        (distances(cosine=np.inf), None, "cosine in the table of distances is inf"),
        (pd.concat([distances()] * 2), None, "table of distances with a row that stands twice"),
        (distances().drop(columns="model"), None, "table of distances without a column: 'model'"),
    ],
)
def test_tables_of_distances_and_models_are_checked_too(table, far, kinds, match):
    with pytest.raises(SchemaError, match=match):
        check_runs(table, far, kinds, source="here")
