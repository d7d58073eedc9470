import json
from dataclasses import replace

import pytest

from layerwise.report.old import analysis_charts, analysis_html

ATTACK = "</script><script>window.pwned=1</script>"


@pytest.fixture(scope="module")
def page(atlas_analysis, read_page):
    return read_page(analysis_html(atlas_analysis))


@pytest.fixture(scope="module")
def html_of(planted_runs, read_page):
    def made(**how):
        return read_page(analysis_html(planted_runs.analysed(planted_runs.study(**how))))

    return made


def test_the_page_says_what_a_reader_needs(page, atlas_analysis):
    for words in (
        "atlas (arXiv 2604.17177)",
        "210 runs · 9 models · 1 seed",
        "Change rises over depth in 189 of 190 standard runs.",
        "It falls in codegen-350m-mono, barlow-twins, frozen-norm (Procrustes distance).",
        "8 of 9 models by gradient Procrustes (sign test p = 0.039)",
        "Intervals over seeds: there is one seed.",
        "five standard Procrustes distance 190 189 1 0 99.5 %",
        "equal-step CKA change 20",
        "Runs SHA-256 " + atlas_analysis.sha256,
        "layerwise analyse ledger",
    ):
        assert words in page.said, words


def test_every_disagreement_and_anomaly_is_in_a_table(page, atlas_analysis):
    for row in atlas_analysis.disagreements:
        told = f"{row.model}, {row.objective}, {row.condition} {row.procrustes:.3f} {row.cka:.3f}"
        assert told in page.said
    for point in atlas_analysis.anomalies:
        assert f"{point.at:.3f} {point.slope:.3f} {point.residual:.2f}" in page.said


def test_every_pair_and_every_width_is_in_a_table(page, atlas_analysis):
    for row in atlas_analysis.equal_step:
        assert f"{row.standard:.3f} {row.equal_step:.3f} {row.ratio:.3f}" in page.said
    for row in atlas_analysis.widths:
        assert " ".join(f"{share:.3f}" for share in row.shares) in page.said


def test_every_chart_has_a_figure_with_words(page, atlas_analysis):
    names = {a["data-chart"] for _, a in page.tags if "data-chart" in a}
    drawn = json.loads(page.text["script"][0])
    assert names == set(drawn["specs"]) == set(analysis_charts(atlas_analysis))
    assert all(a["aria-label"] for _, a in page.tags if a.get("role") == "img")


def test_ids_that_tables_point_to_exist_once(page):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a} <= set(ids)


def test_intervals_are_shown_where_there_are_seeds(html_of):
    said = html_of(seeds=(0, 1, 2), noise=0.01).said
    assert "3 seeds" in said
    assert " to 0." in said
    assert "Not in this analysis" not in said


@pytest.mark.parametrize(
    ("how", "words", "gone"),
    [
        ({"conditions": ("standard",)}, "no run is under equal-step", "Signs under equal-step"),
        ({"distant": False}, "distances of objectives were not measured", "In each model"),
        ({"metrics": ("procrustes",)}, "Runs have one metric", "The same as a table"),
        ({"conditions": ("equal-step",)}, "No run is under one of the five", "In each model"),
        ({"objectives": ("nsp",)}, "1 of at least 3 objectives", "Sign test, 0"),
    ],
)
def test_what_is_missing_is_told_and_its_section_left_out(html_of, how, words, gone):
    said = html_of(**how).said
    assert words in said
    assert gone not in said


def test_another_placement_that_no_run_has_still_makes_a_page(planted_runs, read_page):
    made = planted_runs.analysed(planted_runs.study(), placement="high")
    assert "no run has the placement 'high'" in read_page(analysis_html(made)).said


def test_hostile_text_neither_ends_an_element_nor_starts_one(planted_runs, page, read_page):
    runs = planted_runs.study(
        models=(ATTACK, "b"), objectives=(ATTACK, "p", "q"), blocks=(ATTACK,), source=ATTACK
    )
    made = replace(planted_runs.analysed(runs), notes=(ATTACK,), absent={"widths": ATTACK})
    found = read_page(analysis_html(made))
    assert len(found.text["script"]) == len(page.text["script"])
    assert ATTACK in found.said
    assert ATTACK not in found.text["script"][0]


def test_unprintable_characters_become_visible(planted_runs):
    runs = planted_runs.study(models=("a\x00b", "s\u202e"), source="x\x1b")
    content = analysis_html(planted_runs.analysed(runs))
    assert not set(content.decode()) & set("\x00\u202e\x1b")


def test_the_same_analysis_is_the_same_page(atlas_analysis):
    assert analysis_html(atlas_analysis) == analysis_html(atlas_analysis)


def test_every_run_of_several_seeds_is_named_with_its_seed(planted_runs, read_page):
    """Seed 0 too: a name without one would stand for several runs."""
    made = planted_runs.analysed(planted_runs.study(seeds=(0, 1), noise=0.3))
    said = read_page(analysis_html(made)).said
    assert {run.seed for run in made.negative} == {0, 1}
    for run in made.negative:
        assert f"{run.model}, {run.objective}, {run.condition}, seed {run.seed} " in said
