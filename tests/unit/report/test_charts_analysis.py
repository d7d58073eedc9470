import json
from itertools import pairwise

import pytest
from layerwise.report.old.charts_analysis import MOST_ROWS

from layerwise.report import analysis_charts, export_analysis_charts

NAMES = {
    "slopes",
    "equal-step-procrustes",
    "equal-step-cka",
    "widths",
    "distance-procrustes",
    "distance-cosine",
}
HOSTILE = "</script>${alert(1)}"


def rows(made, name):
    return made[name]["datasets"][name]


def test_a_chart_for_each_question(atlas_analysis):
    assert set(analysis_charts(atlas_analysis)) == NAMES


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ({"distant": False}, {"slopes", "equal-step-procrustes", "equal-step-cka", "widths"}),
        (
            {"conditions": ("standard",), "metrics": ("cka",)},
            NAMES - {n for n in NAMES if "equal" in n},
        ),
        ({"conditions": ("equal-step",)}, {"equal-step-procrustes", "equal-step-cka"}),
        ({"conditions": ("top-m",)}, set()),
    ],
)
def test_only_what_the_runs_have_is_drawn(planted_runs, how, kept):
    assert set(analysis_charts(planted_runs.analysed(planted_runs.study(**how)))) == kept


def test_a_mean_is_drawn_for_every_pair_and_metric_and_a_tick_for_every_condition(atlas_analysis):
    drawn = rows(analysis_charts(atlas_analysis), "slopes")
    means = [row for row in drawn if row["mean"]]
    assert len(means) == 38 * 2
    assert len(drawn) - len(means) == 38 * 2 * 5
    assert len({row["label"] for row in drawn}) == sum(row["first"] for row in drawn) == 38
    (row,) = (
        r for r in means
        if r["label"] == "bert-base-uncased · nsp" and r["metric"] == "Procrustes distance"
    )  # fmt: skip
    own = [
        r.slope
        for r in atlas_analysis.mean_slopes
        if (r.model, r.objective, r.metric) == ("bert-base-uncased", "nsp", "procrustes")
    ]
    assert row["slope"] == pytest.approx(sum(own) / 5, rel=1e-5)


def test_pairs_have_both_slopes_and_the_colour_of_their_blocks(atlas_analysis):
    made = analysis_charts(atlas_analysis)
    found = {row["label"]: row for row in rows(made, "equal-step-procrustes")}
    assert len(found) == 20
    for row in atlas_analysis.equal_step:
        if row.metric == "procrustes":
            drawn = found[f"{row.model} · {row.objective}"]
            assert drawn["equal"] == pytest.approx(row.equal_step, rel=1e-5)
            assert drawn["standard"] == pytest.approx(row.standard, rel=1e-5)
            assert drawn["block"] == f"{row.block} blocks"


def test_shares_of_a_model_make_one(atlas_analysis):
    drawn = rows(analysis_charts(atlas_analysis), "widths")
    for row in atlas_analysis.widths:
        own = [r["share"] for r in drawn if r["label"] == row.model]
        assert own == pytest.approx(list(row.shares), rel=1e-5, abs=1e-9)


def test_the_pooled_line_and_the_named_anomalies(atlas_analysis):
    made = analysis_charts(atlas_analysis)
    drawn = rows(made, "distance-cosine")
    named = {row["name"] for row in drawn if row["anomaly"]}
    assert named == {
        f"{p.model} · {p.objective}"
        for p in atlas_analysis.anomalies
        if (p.distance, p.metric) == ("cosine", "procrustes")
    }
    heights = sorted(row["name_at"] for row in drawn if row["anomaly"])
    apart = 0.05 * max(row["slope"] for row in drawn)
    assert all(b - a > 0.9 * apart for a, b in pairwise(heights))


def test_names_that_shorten_to_the_same_stay_apart(planted_runs):
    models = tuple(f"{'m' * 40}{n}{'m' * 40}" for n in range(3))
    made = analysis_charts(planted_runs.analysed(planted_runs.study(models=models)))
    assert len({row["label"] for row in rows(made, "slopes")}) == 9
    assert len({row["label"] for row in rows(made, "widths")}) == 3


def test_of_very_many_lines_the_first_are_drawn(planted_runs):
    models = tuple(f"m{n}" for n in range(50))
    runs = planted_runs.study(models=models, conditions=("standard",), metrics=("cka",))
    drawn = rows(analysis_charts(planted_runs.analysed(runs)), "slopes")
    assert len({row["label"] for row in drawn}) == MOST_ROWS < 150


def test_no_name_from_outside_is_in_a_specification(planted_runs):
    runs = planted_runs.study(
        models=(HOSTILE,), objectives=(HOSTILE, "p", "q"), blocks=(HOSTILE,), source=HOSTILE
    )
    made = analysis_charts(planted_runs.analysed(runs))
    assert set(made) == NAMES
    bare = {name: {k: v for k, v in spec.items() if k != "datasets"} for name, spec in made.items()}
    assert "alert" not in json.dumps(bare)
    json.dumps(made, allow_nan=False)


def test_exports_are_pictures(planted_runs):
    files = export_analysis_charts(planted_runs.analysed(planted_runs.study()))
    assert {name for name in files if name.endswith(".png")} == {f"chart-{n}.png" for n in NAMES}
    assert all(
        content.startswith(b"\x89PNG" if name.endswith(".png") else b"<svg")
        for name, content in files.items()
    )
