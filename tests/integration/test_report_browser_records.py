"""The pages of profiles and controls in a real browser: drawn, silent, closed in, legible."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from layerwise.report import document, html

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOSTILE = "</script><img src=x onerror=window.pwned=1>\"'&{{7*7}}${window.pwned=2}"
TEXT = "h1, h2, h3, p, li, dt, dd, small, figcaption span, th, td, code, .end, .cell"


@pytest.fixture(scope="module")
def profiles(planted_profile, still_profile):
    names = tuple(f"model.layers.{n}.self_attn.q_proj" for n in range(20))
    return {
        "30 blocks": planted_profile(untrained=names, notes=("a note",)),
        "1 block": planted_profile(blocks=1),
        "6 blocks": planted_profile(blocks=6),
        "96 blocks": planted_profile(blocks=96),
        "one readout": planted_profile(scales={"hf": 1.0}),
        "falling": planted_profile(steepness=-0.04),
        "still": still_profile(),
    }


@pytest.fixture(scope="module")
def controls(planted_control):
    return {
        "3 seeds": planted_control(),
        "1 seed": planted_control(seeds=(0,), equal=0.0),
        "12 seeds": planted_control(seeds=range(12), blocks=6),
        "nothing recorded": planted_control(steps=False, losses=False),
        "1 block twice": planted_control(blocks=1),
    }


@pytest.fixture(scope="module")
def contents(profiles, controls):
    """The function that gives the page of one of these records, each made once."""
    return cache(lambda kind: html((profiles | controls)[kind]))


@pytest.mark.parametrize(
    "kind",
    ["30 blocks", "1 block", "6 blocks", "96 blocks", "one readout", "falling", "still"],
)
def test_every_chart_of_a_profile_is_drawn(opened_page, marks, profiles, contents, kind):
    profile = profiles[kind]
    with opened_page(contents(kind)) as page:
        drawn = marks(page)
        assert set(drawn) == set(document(profile).charts())
        blocks = len(profile.blocks)
        assert all(n >= (7 if name == "width" else blocks) for name, n in drawn.items()), drawn


@pytest.mark.parametrize(
    "kind", ["3 seeds", "1 seed", "12 seeds", "nothing recorded", "1 block twice"]
)
def test_every_chart_of_a_control_is_drawn(opened_page, marks, controls, contents, kind):
    control = controls[kind]
    blocks, seeds = len(control.standard.blocks), len(control.seeds)
    least = {"slopes": 2 * seeds, "step-sizes": 2 * (blocks + 1)}
    with opened_page(contents(kind)) as page:
        drawn = marks(page)
        assert set(drawn) == set(document(control).charts())
        assert all(n >= least.get(name, 2 * blocks) for name, n in drawn.items()), drawn


def legible(page, contrast):
    assert contrast(page, TEXT) >= 4.5
    assert contrast(page, "svg .role-axis-label text, svg text") >= 4.5
    assert contrast(page, "svg .mark-symbol.role-mark path[stroke-width]") >= 3.0


@pytest.mark.parametrize("kind", ["30 blocks", "3 seeds"])
def test_text_and_marks_are_legible_in_light_dark_and_print(opened_page, contrast, contents, kind):
    with opened_page(contents(kind)) as page:
        legible(page, contrast)
    with opened_page(contents(kind), color_scheme="dark") as page:
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


@pytest.mark.parametrize("kind", ["96 blocks", "12 seeds"])
def test_the_page_never_scrolls_sideways(opened_page, contents, kind):
    for width in (320, 760, 1180):
        with opened_page(contents(kind), width=width) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_names_show_as_text_and_never_run(opened_page, planted_profile, planted_control):
    names = {"before": HOSTILE, "after": HOSTILE, "stack": HOSTILE, "command": HOSTILE}
    names |= {"notes": (HOSTILE,), "untrained": (HOSTILE,)}
    control = planted_control(blocks=3, reason=HOSTILE, **names)
    control = replace(control, data=replace(control.data, source=HOSTILE, objective=HOSTILE))
    for content in (html(planted_profile(blocks=3, **names)), html(control)):
        with opened_page(content) as page:
            for place in ("h1", ".warning", "pre.command", "section li", ".sides"):
                assert HOSTILE in page.locator(place).first.text_content(), place
            assert page.evaluate("window.pwned") is None
            assert page.locator("img, iframe, object, embed, a").count() == 0
            assert page.locator("script").count() == 3


def test_a_tooltip_tells_block_depth_and_distance(opened_page, contents):
    with opened_page(contents("30 blocks")) as page:
        page.locator("#figure-depth-profile .mark-symbol.role-mark path").last.hover()
        page.wait_for_selector("#tip:not([hidden])")
        told = page.locator("#tip").text_content()
        assert told == (
            "block 29 · depth 100 %\nProcrustes distance: 0.400\nHalves differ by: 0.00400"
        )


def test_names_of_depths_do_not_overlap(opened_page, contents):
    boxes = """
    labels => labels.filter(label => getComputedStyle(label).opacity > 0 && label.textContent
        .includes('%')).map(label => label.getBoundingClientRect())
      .map(box => [box.left, box.right])
    """
    with opened_page(contents("96 blocks"), width=320) as page:
        spots = page.eval_on_selector_all("#figure-depth-profile .role-axis-label text", boxes)
    spots.sort()
    assert len(spots) >= 4
    assert all(b[0] >= a[1] for a, b in pairwise(spots))
