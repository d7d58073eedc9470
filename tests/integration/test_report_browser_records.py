"""The pages of profiles, controls and analyses in a real browser: drawn, silent, legible."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from layerwise.report import document, html

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOSTILE = "</script><img src=x onerror=window.pwned=1>\"'&{{7*7}}${window.pwned=2}"
TEXT = "h1, h2, h3, p, li, dt, dd, small, figcaption span, th, td, code, .end, .cell"
PROFILES = {
    "30 blocks": {
        "untrained": tuple(f"model.layers.{n}.self_attn.q_proj" for n in range(20)),
        "notes": ("a note",),
    },
    "1 block": {"blocks": 1},
    "6 blocks": {"blocks": 6},
    "96 blocks": {"blocks": 96},
    "one readout": {"scales": {"hf": 1.0}},
    "falling": {"steepness": -0.04},
}
CONTROLS = {
    "3 seeds": {},
    "1 seed": {"seeds": (0,), "equal": 0.0},
    "12 seeds": {"seeds": range(12), "blocks": 6},
    "nothing recorded": {"steps": False, "losses": False},
    "1 block twice": {"blocks": 1},
}
ANALYSES = {
    "noisy": {"seeds": (0, 1, 2), "noise": 0.02},
    "one model": {"models": ("only",)},
    "one metric": {"metrics": ("cka",)},
    "no distance": {"distant": False},
    "equal-step alone": {"conditions": ("equal-step",)},
    "long names": {"models": ("m" * 300, "n" * 300), "objectives": ("o" * 300, "p", "q")},
}


@pytest.fixture(scope="module")
def record(planted_profile, still_profile, planted_control, planted_runs, atlas_analysis):
    """The function that gives a record by its name, and each made once."""

    def made(kind):
        if kind in PROFILES:
            return planted_profile(**PROFILES[kind])
        if kind in CONTROLS:
            return planted_control(**CONTROLS[kind])
        if kind in ANALYSES:
            return planted_runs.analysed(planted_runs.study(**ANALYSES[kind]))
        return {"still": still_profile, "atlas": lambda: atlas_analysis}[kind]()

    return cache(made)


@pytest.fixture(scope="module")
def content(record):
    """The function that gives the page of a record, each made once."""
    return cache(lambda kind: html(record(kind)))


def of_profile(profile):
    blocks = len(profile.blocks)
    return lambda chart: 7 if chart == "width" else blocks


def of_control(control):
    blocks = 2 * len(control.standard.blocks)
    least = {"slopes": 2 * len(control.seeds), "step-sizes": blocks + 2}
    return lambda chart: least.get(chart, blocks)


def of_analysis(made):
    pairs = len({(row.model, row.objective) for row in made.mean_slopes})
    equal = len({(row.model, row.objective) for row in made.equal_step})
    least = {"widths": 7 * len(made.widths)}
    return lambda chart: least.get(chart, equal if chart.startswith("equal-step") else pairs)


#: For each record how many marks a chart of it has, at least.
MARKS = dict.fromkeys((*PROFILES, "still"), of_profile) | dict.fromkeys(CONTROLS, of_control)
MARKS |= dict.fromkeys((*ANALYSES, "atlas"), of_analysis)


@pytest.mark.parametrize("kind", MARKS)
def test_every_chart_is_drawn_and_nothing_is_said(opened_page, marks, record, content, kind):
    least = MARKS[kind](record(kind))
    with opened_page(content(kind), width=1180) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 1180
        drawn = marks(page)
        assert set(drawn) == set(document(record(kind)).charts())
        assert all(count >= least(chart) for chart, count in drawn.items()), drawn


def legible(page, contrast):
    assert contrast(page, TEXT) >= 4.5
    assert contrast(page, "svg .role-axis-label text, svg text") >= 4.5
    assert contrast(page, "svg .mark-symbol.role-mark path[stroke-width]") >= 3.0


@pytest.mark.parametrize("kind", ["30 blocks", "3 seeds", "atlas"])
def test_text_and_marks_are_legible_in_light_dark_and_print(opened_page, contrast, content, kind):
    with opened_page(content(kind)) as page:
        legible(page, contrast)
    with opened_page(content(kind), color_scheme="dark") as page:
        legible(page, contrast)
        page.emulate_media(media="print", color_scheme="dark")
        white = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert white == "rgb(255, 255, 255)"
        assert contrast(page, TEXT) >= 4.5
        assert all(cell.is_visible() for cell in page.locator("thead th").all())
        for figure in page.locator(".chart").all():
            frame, drawing = figure.bounding_box(), figure.locator("svg").bounding_box()
            assert drawing["height"] > 50
            assert drawing["x"] + drawing["width"] <= frame["x"] + frame["width"] + 1
        assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("kind", ["96 blocks", "12 seeds", "atlas", "long names"])
def test_the_page_never_scrolls_sideways(opened_page, content, kind):
    for width in (320, 760):
        with opened_page(content(kind), width=width) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture
def hostile(planted_profile, planted_control, planted_runs):
    """Records that say what is hostile wherever they can; where it is looked for, and as what."""
    names = {"before": HOSTILE, "after": HOSTILE, "stack": HOSTILE, "command": HOSTILE}
    names |= {"notes": (HOSTILE,), "untrained": (HOSTILE,)}
    control = planted_control(blocks=3, reason=HOSTILE, **names)
    control = replace(control, data=replace(control.data, source=HOSTILE, objective=HOSTILE))
    runs = planted_runs.study(
        models=(HOSTILE, "b"), objectives=(HOSTILE, "p", "q"), blocks=(HOSTILE,), source=HOSTILE
    )
    made = replace(planted_runs.analysed(runs), notes=(HOSTILE,), absent={"widths": HOSTILE})
    places = ("h1", ".warning", "pre.command", "section li", ".sides")
    models = "[aria-labelledby=models] tbody th"
    return [
        (planted_profile(blocks=3, **names), places, HOSTILE),
        (control, places, HOSTILE),
        (made, ("h1", ".pairs dd", "section li", models), HOSTILE[:20]),
    ]


def test_hostile_names_show_as_text_and_never_run(opened_page, hostile):
    for made, places, shown in hostile:
        with opened_page(html(made)) as page:
            for place in places:
                assert shown in page.locator(place).first.text_content(), place
            assert page.evaluate("window.pwned") is None
            assert page.locator("img, iframe, object, embed, a").count() == 0
            assert page.locator("script").count() == 3


def tooltip(page, chart):
    page.locator(f"#figure-{chart} .mark-symbol.role-mark path").last.hover()
    page.wait_for_selector("#tip:not([hidden])")
    return page.locator("#tip").text_content()


def test_a_tooltip_tells_block_depth_and_distance(opened_page, content):
    with opened_page(content("30 blocks")) as page:
        assert tooltip(page, "depth-profile") == (
            "block 29 · depth 100 %\nProcrustes distance: 0.400 (halves differ by 0.00400)"
        )


def test_a_tooltip_tells_the_pair_and_both_slopes(opened_page, atlas_analysis, content):
    row = next(
        r for r in atlas_analysis.equal_step
        if (r.model, r.objective, r.metric) == ("pythia-160m", "causal-span", "procrustes")
    )  # fmt: skip
    with opened_page(content("atlas")) as page:
        assert tooltip(page, "equal-step-procrustes") == (
            "pythia-160m · causal-span · parallel blocks\n"
            f"standard: {row.standard:.3f}\nequal-step: {row.equal_step:.3f}\n"
            f"ratio: {row.ratio:.3f}"
        )


def test_lines_stand_in_the_order_of_models(opened_page, atlas_analysis, content):
    with opened_page(content("atlas")) as page:
        labels = page.locator("#figure-slopes .role-axis-label text").all_text_contents()
    models = [text.split(" · ")[0] for text in labels if " · " in text]
    assert list(dict.fromkeys(models)) == [row.model for row in atlas_analysis.models]
    assert len(models) == 38


def test_names_of_depths_do_not_overlap(opened_page, content):
    boxes = """
    labels => labels.filter(label => getComputedStyle(label).opacity > 0 && label.textContent
        .includes('%')).map(label => label.getBoundingClientRect())
      .map(box => [box.left, box.right])
    """
    with opened_page(content("96 blocks"), width=320) as page:
        spots = page.eval_on_selector_all("#figure-depth-profile .role-axis-label text", boxes)
    spots.sort()
    assert len(spots) >= 4
    assert all(b[0] >= a[1] for a, b in pairwise(spots))
