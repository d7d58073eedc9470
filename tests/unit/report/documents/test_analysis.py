from dataclasses import replace

import pytest

from layerwise.report import document, frames, html, text
from layerwise.report.documents.analysis_charts import MOST_ROWS
from support.cards import PROVENANCE

CHARTS = {
    "slopes", "equal-step-procrustes", "equal-step-cka", "widths", "distance-procrustes",
    "distance-cosine",
}  # fmt: skip
LONG = tuple(f"{'m' * 40}{n}{'m' * 40}" for n in range(3))


@pytest.fixture(scope="module")
def made(atlas_analysis):
    return document(atlas_analysis)


@pytest.fixture(scope="module")
def of_study(planted_runs):
    return lambda **how: planted_runs.analysed(planted_runs.study(**how))


def headings(made):
    return [block.text for block in made.blocks if hasattr(block, "level")]


def test_a_terminal_says_signs_models_and_what_stands_out(atlas_analysis, unsaid):
    assert not unsaid(
        " ".join(text(atlas_analysis, width=100).split()),
        "atlas (arXiv 2604.17177) 210 runs · 9 models · 1 seed",
        "five standard Procrustes 190 189 1 0 99.5 %",
        "equal-step CKA 20",
        "pythia-160m causal-lm frozen-norm 0.094 -0.033",
        "Change rises over depth in 189 of 190 standard runs.",
        "It falls in codegen-350m-mono, barlow-twins, frozen-norm (Procrustes distance).",
        "under any condition, 4 runs of 210 differ in sign between the two metrics.",
        "slopes are positive: 10 of 12 with sequential blocks, 3 of 8 with parallel blocks.",
        "8 of 9 models by gradient Procrustes (sign test p = 0.039)",
        "Intervals over seeds there is one seed",
    )


def test_every_part_is_a_table_with_its_numbers(atlas_analysis):
    found = frames(atlas_analysis)
    for part, columns in {
        "shares": ["positive", "share"],
        "negative": ["slope"],
        "disagreements": ["procrustes", "cka"],
        "equal_step": ["standard", "equal_step", "ratio"],
        "sign_counts": ["pairs", "positive", "negative"],
        "widths": ["d0.10", "d1.00"],
        "concordance": ["rho"],
        "sign_tests": ["p_value"],
        "pooled": ["points", "rho"],
        "anomalies": ["at", "slope", "residual"],
        "models": ["runs", "objectives"],
    }.items():
        own = atlas_analysis.frame(part)[columns]
        assert found[part.replace("_", "-")][columns].equals(own.astype(float)) or (
            found[part.replace("_", "-")][columns].to_numpy().tolist() == own.to_numpy().tolist()
        ), part


def test_a_model_is_told_with_its_mean_slope_and_its_correlations(atlas_analysis):
    row = frames(atlas_analysis)["models"].set_index("model").loc["codegen-350m-mono"]
    rhos = {
        r.distance: r.rho
        for r in atlas_analysis.concordance
        if (r.model, r.metric) == (row.name, "procrustes")
    }
    assert row["rho_procrustes"] == rhos["procrustes"]
    assert row["rho_cosine"] == rhos["cosine"]
    own = [
        r.slope for r in atlas_analysis.mean_slopes
        if (r.model, r.metric) == (row.name, "procrustes") and r.condition != "equal-step"
    ]  # fmt: skip
    assert row["mean_slope"] == pytest.approx(sum(own) / len(own))


def test_several_seeds_are_told_apart_and_have_intervals(of_study):
    analysis = of_study(seeds=(0, 1, 2), noise=0.3)
    found = frames(analysis)
    assert set(found["negative"]["seed"]) == {0, 1, 2}
    assert found["equal-step"]["low"].notna().all()
    assert "Not in this analysis" not in headings(document(analysis))
    assert ", seed " in text(analysis)


def without(*gone):
    """The charts whose names have none of the words `gone`."""
    return {name for name in CHARTS if not any(word in name for word in gone)}


@pytest.mark.parametrize(
    ("how", "words", "gone", "kept"),
    [
        ({"conditions": ("standard",)}, "no run is under equal-step", "Signs under equal-step",
         without("equal")),
        ({"distant": False}, "distances of objectives were not measured", "In each model",
         without("distance")),
        ({"metrics": ("procrustes",)}, "Runs have one metric", "Widths", without("cka", "widths")),
        ({"conditions": ("equal-step",)}, "No run is under one of the five", "In each model",
         without("slopes", "widths", "distance")),
        ({"metrics": ("cka",), "distant": False}, "in all 30 standard runs.", "Anomalies",
         without("procrustes", "distance")),
        ({"conditions": ("top-m",)}, "No run is under one of the five", "Widths", set()),
    ],
)  # fmt: skip
def test_what_is_missing_is_told_and_not_drawn(of_study, read_page, how, words, gone, kept):
    made = document(of_study(**how))
    assert words in read_page(html(made)).said
    assert gone not in headings(made)
    assert set(made.charts()) == kept


def test_why_there_is_no_correlation_is_told(of_study):
    found = frames(of_study(objectives=("nsp",)))["concordance"]
    assert set(found["reason"]) == {"1 of at least 3 objectives"}


def test_a_mean_is_drawn_for_every_pair_and_a_tick_for_every_condition(made, atlas_analysis):
    assert set(made.charts()) == CHARTS
    chart = made.charts()["slopes"]
    assert (len(chart.rows), len(chart.faint)) == (38 * 2, 38 * 2 * 5)
    (row,) = (
        r for r in chart.rows
        if r["label"] == "bert-base-uncased · nsp" and r["metric"] == "Procrustes distance"
    )  # fmt: skip
    own = [
        r.slope
        for r in atlas_analysis.mean_slopes
        if (r.model, r.objective, r.metric) == ("bert-base-uncased", "nsp", "procrustes")
    ]
    assert row["slope"] == pytest.approx(sum(own) / 5)


def test_pairs_have_both_slopes_and_the_colour_of_their_blocks(made, atlas_analysis):
    drawn = {row["label"]: row for row in made.charts()["equal-step-procrustes"].rows}
    assert len(drawn) == 20
    for row in atlas_analysis.equal_step:
        if row.metric == "procrustes":
            told = drawn[f"{row.model} · {row.objective}"]
            assert (told["equal_step"], told["standard"]) == (row.equal_step, row.standard)
            assert told["block"] == f"{row.block} blocks"


def test_shares_of_a_model_are_shades(made, atlas_analysis):
    for row in atlas_analysis.widths:
        own = [r["share"] for r in made.charts()["widths"].rows if r["label"] == row.model]
        assert own == list(row.shares)


def test_anomalies_are_named_beside_the_pooled_line(made, atlas_analysis):
    chart = made.charts()["distance-cosine"]
    assert {row["label"] for row in chart.rows if row["label"]} == {
        f"{p.model} · {p.objective}"
        for p in atlas_analysis.anomalies
        if (p.distance, p.metric) == ("cosine", "procrustes") and p.anomaly
    }
    (line,) = (
        f
        for f in atlas_analysis.fits
        if (f.distance, f.metric, f.references) == ("cosine", "procrustes", False)
    )
    for end in chart.lines:
        assert end["slope"] == pytest.approx(line.intercept + line.gradient * end["at"])


def test_names_that_shorten_to_the_same_stay_apart(of_study):
    charts = document(of_study(models=LONG)).charts()
    assert len({row["label"] for row in charts["slopes"].rows}) == 9
    assert len({row["label"] for row in charts["widths"].rows}) == 3


def test_of_very_many_lines_the_first_are_drawn_and_that_is_said(of_study):
    models = tuple(f"m{n}" for n in range(50))
    chart = document(of_study(models=models, conditions=("standard",), metrics=("cka",))).charts()
    assert len({row["label"] for row in chart["slopes"].rows}) == MOST_ROWS
    assert "The first 120 of 150 are drawn." in chart["slopes"].caption


def test_the_same_analysis_is_the_same_page_and_says_how_it_was_made(
    atlas_analysis, read_page, unsaid
):
    page = html(replace(atlas_analysis, notes=("a fallback",)))
    assert page == html(replace(atlas_analysis, notes=("a fallback",)))
    told = (atlas_analysis.sha256, PROVENANCE.command, "a fallback")
    assert not unsaid(read_page(page).said, *told)
