"""The page of an analysis in a real browser: drawn, silent, closed in, legible."""

from dataclasses import replace
from functools import cache

import pytest

from layerwise.report import document, html

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOSTILE = "</script><img src=x onerror=window.pwned=1>\"'&{{7*7}}${window.pwned=2}"
TEXT = "h1, h2, h3, p, li, dt, dd, small, figcaption span, th, td, code"


@pytest.fixture(scope="module")
def analyses(planted_runs, atlas_analysis):
    def made(**how):
        return planted_runs.analysed(planted_runs.study(**how))

    return {
        "atlas": atlas_analysis,
        "3 seeds": made(seeds=(0, 1, 2), noise=0.02),
        "one model": made(models=("only",)),
        "one metric": made(metrics=("cka",)),
        "no distance": made(distant=False),
        "equal-step alone": made(conditions=("equal-step",)),
        "long names": made(models=("m" * 300, "n" * 300), objectives=("o" * 300, "p", "q")),
    }


@pytest.fixture(scope="module")
def contents(analyses):
    """The function that gives the page of an analysis, each made once."""
    return cache(lambda kind: html(analyses[kind]))


@pytest.mark.parametrize(
    "kind",
    [
        "atlas",
        "3 seeds",
        "one model",
        "one metric",
        "no distance",
        "equal-step alone",
        "long names",
    ],
)
def test_every_chart_is_drawn_and_nothing_is_said(opened_page, marks, analyses, contents, kind):
    made = analyses[kind]
    pairs = len({(row.model, row.objective) for row in made.mean_slopes})
    equal = len({(row.model, row.objective) for row in made.equal_step})
    least = {"widths": 7 * len(made.widths)}
    with opened_page(contents(kind)) as page:
        drawn = marks(page)
        assert set(drawn) == set(document(made).charts())
        for name, count in drawn.items():
            lines = equal if name.startswith("equal-step") else pairs
            assert count >= least.get(name, lines), (name, drawn)


def test_lines_stand_in_the_order_of_models(opened_page, atlas_analysis, contents):
    with opened_page(contents("atlas")) as page:
        labels = page.locator("#figure-slopes .role-axis-label text").all_text_contents()
    models = [text.split(" · ")[0] for text in labels if " · " in text]
    assert list(dict.fromkeys(models)) == [row.model for row in atlas_analysis.models]
    assert len(models) == 38


def legible(page, contrast):
    assert contrast(page, TEXT) >= 4.5
    assert contrast(page, "svg .role-axis-label text, svg text") >= 4.5
    assert contrast(page, "svg .mark-symbol.role-mark path[stroke-width]") >= 3.0


@pytest.mark.parametrize("kind", ["atlas", "long names"])
def test_the_page_never_scrolls_sideways(opened_page, contents, kind):
    for width in (320, 760, 1180):
        with opened_page(contents(kind), width=width) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_text_and_marks_are_legible_in_light_dark_and_print(opened_page, contrast, contents):
    with opened_page(contents("atlas")) as page:
        legible(page, contrast)
    with opened_page(contents("atlas"), color_scheme="dark") as page:
        legible(page, contrast)
        page.emulate_media(media="print", color_scheme="dark")
        assert contrast(page, TEXT) >= 4.5
        for figure in page.locator(".chart").all():
            frame, drawing = figure.bounding_box(), figure.locator("svg").bounding_box()
            assert drawing["height"] > 50
            assert drawing["x"] + drawing["width"] <= frame["x"] + frame["width"] + 1
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_hostile_names_show_as_text_and_never_run(opened_page, planted_runs):
    runs = planted_runs.study(
        models=(HOSTILE, "b"), objectives=(HOSTILE, "p", "q"), blocks=(HOSTILE,), source=HOSTILE
    )
    made = replace(planted_runs.analysed(runs), notes=(HOSTILE,), absent={"widths": HOSTILE})
    with opened_page(html(made)) as page:
        for place in ("h1", ".pairs dd", "section li", "[aria-labelledby=models] tbody th"):
            assert HOSTILE[:20] in page.locator(place).first.text_content(), place
        assert page.evaluate("window.pwned") is None
        assert page.locator("img, iframe, object, embed, a").count() == 0
        assert page.locator("script").count() == 3


def test_a_tooltip_tells_the_pair_and_both_slopes(opened_page, atlas_analysis, contents):
    with opened_page(contents("atlas")) as page:
        page.locator("#figure-equal-step-procrustes .mark-symbol.role-mark path").last.hover()
        page.wait_for_selector("#tip:not([hidden])")
        told = page.locator("#tip").text_content()
    row = next(
        r for r in atlas_analysis.equal_step
        if (r.model, r.objective, r.metric) == ("pythia-160m", "causal-span", "procrustes")
    )  # fmt: skip
    assert told == (
        "pythia-160m · causal-span · parallel blocks\n"
        f"standard: {row.standard:.3f}\nequal-step: {row.equal_step:.3f}\nratio: {row.ratio:.3f}"
    )
