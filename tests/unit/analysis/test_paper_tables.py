"""The tables of arXiv 2604.17177, against loops over the shipped figures and what the text says."""

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats


@pytest.fixture
def table(atlas_analysis):
    from layerwise.analysis.paper_tables import PAPER_TABLES

    return lambda name: PAPER_TABLES[name](atlas_analysis)


def ranks_agree(points):
    return stats.spearmanr(*zip(*points, strict=True)).statistic


def test_equal_step_keeps_the_signs_that_the_text_counts(table):
    found = table("1")
    above = found[found["equal_step"] > 0].groupby("block").size()
    every = found.groupby("block").size()
    assert (above["sequential"], every["sequential"]) == (10, 12)
    assert every["parallel"] == 8
    collapsed = found[(found["equal_step"] <= 0) & (found["block"] == "sequential")]
    assert set(collapsed["objective"]) == {"simcse"}
    assert np.allclose(found["ratio"], found["equal_step"] / found["standard"])


def test_distances_stand_beside_the_mean_slope_of_five_conditions(table, atlas_analysis):
    found = table("2").set_index(["model", "objective"])
    for (model, objective), row in found.iterrows():
        slopes = [
            run.slope
            for run in atlas_analysis.slopes
            if (run.model, run.objective, run.metric) == (model, objective, "procrustes")
            and run.condition != "equal-step"
        ]
        assert len(slopes) == 5
        assert row["slope"] == pytest.approx(np.mean(slopes))
        assert row["deviation"] == pytest.approx(np.std(slopes, ddof=1))
    assert found.loc[("bert-base-uncased", "nsp"), "procrustes"] == 1.406
    assert len(found) == 38


def test_widths_are_the_published_ones_with_their_spread(table, atlas_analysis):
    with Path("tests/data/atlas_widths.csv").open(encoding="utf-8") as stream:
        published = {row.pop("model"): row for row in csv.DictReader(stream)}
    found = table("3").set_index("model")
    for model, row in published.items():
        for depth, value in row.items():
            assert found.loc[model, depth] == pytest.approx(float(value), abs=3e-3)
    assert found.index[0] == "opt-125m"
    assert all(a >= b for a, b in pairwise(found["d1.00"]))
    # The text: models differ from each other several times more than objectives in a model.
    assert found["d1.00"].std() > 2 * found["deviation"].mean()


def test_pooled_correlations_of_each_group(table, atlas_analysis):
    found = table("6").set_index("group")
    points = [p for p in atlas_analysis.points if p.metric == "procrustes"]
    kinds = {row.model: row.family for row in atlas_analysis.models}
    for group, chosen in (("encoders", {"encoder"}), ("causal", {"decoder", "ssm", "rnn"})):
        for distance in ("procrustes", "cosine"):
            own = [(p.at, p.slope) for p in points
                   if p.distance == distance and kinds[p.model] in chosen]  # fmt: skip
            far = [point for point in own if point[0] > 0]
            assert found.loc[group, f"{distance} with zero"] == pytest.approx(ranks_agree(own))
            assert found.loc[group, f"{distance} without zero"] == pytest.approx(ranks_agree(far))
    assert found["models"].to_dict() == {"encoders": 3, "causal": 6, "all": 9}


def test_depth_alone_says_little_and_scale_goes_as_the_text_says(table):
    depth = table("depth").set_index("model")["slope"]
    assert abs(depth["all"]) < 0.5
    assert depth["rwkv-4-169m"] > depth["mamba-130m"]
    scale = table("scale")
    bert = scale[scale["model_small"] == "bert-base-uncased"].set_index("objective")["ratio"]
    assert bert["masked-lm"] > 1.5
    assert bert["span-denoise"] > 1.5
    assert bert["nsp"] < 1 < bert["barlow-twins"] < bert["simcse"]


def test_runs_are_counted_and_those_whose_metrics_disagree(table, atlas_analysis):
    counted, metrics = table("4"), table("metrics")
    assert counted["runs"].sum() == 210
    assert metrics["runs"].sum() == 210
    assert metrics["same_sign"].sum() == 210 - len(atlas_analysis.disagreements)


def test_no_run_has_many_seeds_in_the_atlas_and_a_study_has(table, atlas_analysis):
    from layerwise.analysis.paper_tables import over_seeds

    assert table("seeds").empty
    two = atlas_analysis.slopes[0]
    again = replace(two, seed=two.seed + 1, slope=two.slope + 0.2)
    assert two.metric == "procrustes"
    found = over_seeds(replace(atlas_analysis, slopes=(*atlas_analysis.slopes, again)))
    assert found["seeds"].tolist() == [2]
    assert found["deviation"].item() == pytest.approx(0.2 / np.sqrt(2))


def test_a_budget_says_how_far_change_concentrates_in_each_kind_of_model(table):
    found = table("budget").set_index(["family", "block"])
    assert found.loc[("decoder", "sequential"), "last_low"] > 0.97
    assert found.loc[("decoder", "sequential"), "from_depth"] == 1.0
    assert found.loc[("decoder", "parallel"), "from_depth"] < 0.75


def test_nothing_to_compare_gives_empty_tables_and_no_number(atlas_analysis):
    from layerwise.analysis.analyse import analyse_runs
    from layerwise.analysis.paper_tables import PAPER_TABLES
    from layerwise.analysis.run_tables import check_runs

    depths = {f"d{d:.2f}": [0.0] for d in (0.10, 0.25, 0.40, 0.60, 0.75, 0.90, 1.00)}
    one = pd.DataFrame({"model": ["m"], "objective": ["causal-lm"], "condition": ["standard"],
                        "metric": ["procrustes"], "seed": [0], **depths})  # fmt: skip
    still = analyse_runs(check_runs(one, source="one run"), provenance=atlas_analysis.provenance)
    tables = {name: make(still) for name, make in PAPER_TABLES.items()}
    assert tables["1"].empty
    assert tables["3"].empty
    assert tables["anomalies"].empty
    assert tables["6"].drop(columns=["group", "models"]).isna().all(axis=None)
