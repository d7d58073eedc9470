"""What the published runs are known to say."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from layerwise.analysis.names import DEPTHS, FIVE, KEYS
from layerwise.analysis.run_tables import atlas

PUBLISHED_WIDTHS = Path(__file__).parents[2] / "data" / "atlas_widths.csv"


def test_210_runs_of_nine_models_by_two_metrics():
    profiles = atlas().profiles
    standard = profiles[profiles["condition"].isin(FIVE)]
    equal = profiles[profiles["condition"] == "equal-step"]
    for metric in ("procrustes", "cka"):
        assert (standard["metric"] == metric).sum() == 190
        assert (equal["metric"] == metric).sum() == 20
    assert len(standard) + len(equal) == len(profiles)
    assert len(profiles.drop_duplicates(list(KEYS))) == 210
    assert profiles["model"].nunique() == 9
    assert (set(profiles["placement"]), set(profiles["seed"])) == ({"all"}, {0})


def test_masked_lm_goes_by_our_name_in_both_tables():
    runs = atlas()
    for table in (runs.profiles, runs.distances):
        assert "masked-lm" in set(table["objective"])
        assert "mlm" not in set(table["objective"])


def test_blocks_that_are_of_neither_kind_are_none_and_not_missing():
    kinds = atlas().models.set_index("model")["block"]
    assert set(kinds) == {"sequential", "parallel", "none"}
    assert kinds["mamba-130m"] == "none"


def test_the_source_is_named_with_the_tables():
    folder = files("layerwise.analysis").joinpath("atlas")
    assert "2604.17177" in folder.joinpath("SOURCE.md").read_text(encoding="utf-8")
    assert "2604.17177" in atlas().source


def test_189_of_190_slopes_are_positive_and_the_other_one_is_named(atlas_analysis):
    (share,) = (
        s
        for s in atlas_analysis.shares
        if (s.metric, s.conditions) == ("procrustes", "five-standard")
    )
    assert (share.runs, share.positive, share.negative, share.zero) == (190, 189, 1, 0)
    (run,) = (run for run in atlas_analysis.negative if run.metric == "procrustes")
    named = (run.model, run.objective, run.condition)
    assert named == ("codegen-350m-mono", "barlow-twins", "frozen-norm")


@pytest.mark.parametrize(
    ("model", "objective", "slope", "within"),
    [
        ("bert-base-uncased", "masked-lm", 0.265, 0.0005),
        ("bert-base-uncased", "nsp", 1.16, 0.005),
        ("bert-base-uncased", "span-denoise", 0.23, 0.005),
        ("bert-base-uncased", "simcse", 0.546, 0.0005),
        ("bert-base-uncased", "barlow-twins", 0.64, 0.005),
    ],
)
def test_slopes_that_the_paper_prints(atlas_analysis, model, objective, slope, within):
    wanted = (model, objective, "standard", "procrustes")
    (found,) = (
        r for r in atlas_analysis.slopes if (r.model, r.objective, r.condition, r.metric) == wanted
    )
    assert found.slope == pytest.approx(slope, abs=within)


def test_widths_are_those_that_the_paper_prints(atlas_analysis):
    published = pd.read_csv(PUBLISHED_WIDTHS, index_col="model")
    ours = atlas_analysis.frame("widths").set_index("model")
    assert set(ours.index) == set(published.index)
    assert len(ours) == 9
    difference = ours[list(DEPTHS)] - published.loc[ours.index, list(DEPTHS)]
    assert np.abs(difference.to_numpy()).max() <= 0.003


@pytest.mark.parametrize(
    ("distance", "positive", "p_value"), [("procrustes", 8, 0.039), ("cosine", 9, 0.0039)]
)
def test_the_farther_objective_has_the_steeper_slope(atlas_analysis, distance, positive, p_value):
    rows = [
        row
        for row in atlas_analysis.concordance
        if (row.distance, row.metric) == (distance, "procrustes")
    ]
    assert len(rows) == 9
    assert sum(row.rho > 0 for row in rows) == positive
    (test,) = (
        t for t in atlas_analysis.sign_tests if (t.distance, t.metric) == (distance, "procrustes")
    )
    assert (test.models, test.positive) == (9, positive)
    assert test.p_value == pytest.approx(p_value, rel=0.02)


def test_equal_step_keeps_what_the_paper_says_of_token_prediction(atlas_analysis):
    counts = {
        (c.block, c.family): c for c in atlas_analysis.sign_counts if c.metric == "procrustes"
    }
    assert counts[None, None].pairs == 20
    assert counts["sequential", None].pairs + counts["parallel", None].pairs == 20
    sequential = counts["sequential", "token-prediction"]
    assert sequential.positive == sequential.pairs
    assert counts["parallel", "contrastive"].positive == 0


def test_one_seed_has_no_intervals_and_says_so(atlas_analysis):
    assert atlas_analysis.absent == {"intervals": "there is one seed, of 3 at least"}
    assert all(row.low is None and row.high is None for row in atlas_analysis.mean_slopes)
